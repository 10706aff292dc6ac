"""Getting a file from the hub, putting a folder there; what goes wrong is said in one sentence."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from snce.errors import SnceError, first_line
from snce.hub.names import HubFile, check_repo, others

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import HfApi

LOGIN = "log in with `hf auth login`, or pass a token"


def hub(token: str | bool | None = None, endpoint: str | None = None) -> HfApi:
    """The hub's client."""
    from huggingface_hub import HfApi

    from snce import __version__

    endpoint = endpoint.rstrip("/") if endpoint else None
    return HfApi(endpoint=endpoint, token=token, library_name="snce", library_version=__version__)


def download(
    file: HubFile,
    force_download: bool = False,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    endpoint: str | None = None,
) -> Path:
    """Where `file` lies in the cache, fetched if it is not there or has changed. See `HubMixin.from_pretrained`.

    Raises:
        SnceError: no such repository, revision or file, no access, or the hub cannot be reached and it is not there.
    """
    if force_download and local_files_only:
        raise SnceError("force_download and local_files_only contradict each other")
    api = hub(token, endpoint)
    with explained(str(file), api):
        try:
            path = api.hf_hub_download(
                file.repo_id,
                file.filename,
                revision=file.revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
            )
        except _remote_entry_not_found() as error:
            raise SnceError(
                f"{file.repo_id} holds no {file.filename}{others(_files(api, file.repo_id, file.revision))}"
            ) from error
    return Path(path)


@dataclass(frozen=True)
class Push:
    """One commit to a repository on the hub, onto the state that it had when this began."""

    api: HfApi
    repo_id: str
    branch: str | None
    head: str
    """The commit that the branch stood at."""
    files: tuple[str, ...]
    """What the repository held."""

    @classmethod
    def begin(
        cls, repo_id: str, *, private: bool | None, token: str | None, branch: str | None, endpoint: str | None
    ) -> Push:
        """Make the repository if need be. See `HubMixin.push_to_hub`."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        api = hub(token, endpoint)
        with explained(check_repo(repo_id), api):
            try:  # who may write to a repository need not be allowed to make one
                info = api.model_info(repo_id, revision=branch)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                api.create_repo(repo_id, private=private)
                info = api.model_info(repo_id, revision=branch)
        if private and info.private is False:
            raise SnceError(
                f"{repo_id} is public, and private=True makes new repositories only: nothing was pushed; change it in "
                "its settings on the hub, or choose another name"
            )
        return cls(api, repo_id, branch, str(info.sha), tuple(file.rfilename for file in info.siblings or ()))

    def fetch_readme(self, path: Path) -> None:
        """Write the repository's README.md to `path`, if it has one."""
        if path.name not in self.files:
            return
        with explained(self.repo_id, self.api), TemporaryDirectory() as cache:
            got = self.api.hf_hub_download(self.repo_id, path.name, revision=self.head, cache_dir=cache)
            path.write_bytes(Path(got).read_bytes())

    def commit(
        self,
        folder: Path,
        message: str,
        *,
        create_pr: bool | None = None,
        allow_patterns: list[str] | str | None = None,
        ignore_patterns: list[str] | str | None = None,
        delete_patterns: list[str] | str | None = None,
    ) -> str:
        """Upload what is in `folder`; return the address of the commit. See `HubMixin.push_to_hub`."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.utils import filter_repo_objects

        found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        added = list(filter_repo_objects(found, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns))
        kept = {*added, ".gitattributes"}
        removed = filter_repo_objects(self.files, allow_patterns=delete_patterns) if delete_patterns else ()
        with explained(self.repo_id, self.api):
            info = self.api.create_commit(
                self.repo_id,
                [
                    *(CommitOperationDelete(name) for name in removed if name not in kept),
                    *(CommitOperationAdd(name, str(folder / name)) for name in added),
                ],
                commit_message=message,
                revision=self.branch,
                create_pr=create_pr,
                parent_commit=self.head,
            )
        return info.pr_url or info.commit_url


@contextmanager
def explained(what: str, api: HfApi) -> Iterator[None]:
    """Turn the errors of the hub's client into an SnceError about `what`."""
    from huggingface_hub import errors

    try:
        yield
    except SnceError:
        raise
    except errors.GatedRepoError as error:
        raise SnceError(f"{what} is gated: ask for access on its page on the hub, then {LOGIN}") from error
    except errors.RepositoryNotFoundError as error:
        raise SnceError(f"{what}: no such repository on the hub, or a private one; if it is yours, {LOGIN}") from error
    except errors.RevisionNotFoundError as error:
        raise SnceError(f"{what}: the repository has no such branch, tag or commit") from error
    except errors.LocalEntryNotFoundError as error:
        why = first_line(error.__cause__ or error)
        raise SnceError(f"{what} is not in the cache, and the hub cannot be reached: {why}") from error
    except errors.OfflineModeIsEnabled as error:
        raise SnceError(f"{what}: the hub is not to be asked, since HF_HUB_OFFLINE is set") from error
    except errors.HfHubHTTPError as error:
        raise SnceError(f"{what}: {_refusal(error)}") from error
    except errors.HTTPError as error:
        raise SnceError(f"{what}: the hub at {api.endpoint} cannot be reached: {first_line(error)}") from error
    except OSError as error:
        raise SnceError(f"{what}: {error.strerror or first_line(error)}") from error
    except ValueError as error:  # a name, a header of a card, or options that do not go together
        raise SnceError(f"{what}: {' '.join(str(error).split())}") from error


def _refusal(error: Any) -> str:
    status = error.response.status_code
    reason = error.server_message or first_line(error)
    if status in (401, 403):
        return f"the hub does not allow it ({reason}); {LOGIN} that may"
    if status in (409, 412):
        return f"someone else changed the repository meanwhile ({reason}); nothing was pushed, do it again"
    return f"the hub answered {status} ({reason})"


def _remote_entry_not_found() -> type[Exception]:
    from huggingface_hub.errors import RemoteEntryNotFoundError

    return RemoteEntryNotFoundError


def _files(api: HfApi, repo_id: str, revision: str | None) -> list[str]:
    """What a repository holds; nothing if it does not say."""
    try:
        return api.list_repo_files(repo_id, revision=revision)
    except Exception:  # it is for an error message only, which must come whatever happens here
        return []
