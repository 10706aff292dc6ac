"""from_pretrained, save_pretrained, push_to_hub: for a class that is one safetensors file.

They have the signatures of `huggingface_hub.ModelHubMixin`, and two arguments more, but are not built on it. The mixin
sets attributes on each new object, which a frozen dataclass refuses; it keeps what it can of the constructor's
arguments in a second file, config.json, where ours is whole in one; it asks the hub for that file before anything else;
its variant for PyTorch falls back on a pickle; and a class that inherits from it imports the hub's client.
"""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Self

from snce.errors import SnceError
from snce.hub.names import HubFile, check_filename, check_repo, hub_model, is_hub_uri, others, parse_hub_uri

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

README = "README.md"


class HubMixin:
    """What a class inherits to be had from the hub, and brought there.

    It says under which name a file of its kind goes, by `class Eraser(HubMixin, file="eraser.safetensors")`, and how
    one is written, read and described.
    """

    hub_file: ClassVar[str]
    """Name of the file where no other is given."""

    def __init_subclass__(cls, file: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if file is not None:
            cls.hub_file = file

    def _write_hub_file(self, path: Path) -> None:
        raise NotImplementedError

    @classmethod
    def _read_hub_file(cls, path: Path) -> Self:
        raise NotImplementedError

    def _describe_for_hub(self, filename: str, repo_id: str | None) -> tuple[str, dict[str, Any]]:
        """(the Markdown of the model card without its header, the header's fields beside those that all cards have)."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        filename: str | None = None,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        endpoint: str | None = None,
    ) -> Self:
        """Read it from a folder, or from a repository on the hub.

        Args:
            pretrained_model_name_or_path: a folder, a safetensors file, OWNER/NAME on the hub, or
                hf://OWNER/NAME[@REVISION][/FILE.safetensors]. A folder that is there goes before a name on the hub.
            filename: which file of the folder or repository; by default the class's `hub_file`.
            force_download: fetch it also if it is in the cache.
            token: a token of the hub, True for that of `hf auth login`, False for none. None uses it if it is there.
            cache_dir: where files from the hub are kept, in place of the hub's usual cache.
            local_files_only: do not ask the hub; what is in the cache must do.
            revision: branch, tag or commit.
            endpoint: address of another hub than that of HF_ENDPOINT.

        Raises:
            SnceError: no such folder, repository, revision or file; no access to it; the hub cannot be reached and the
                file is not in the cache; a damaged file, or one of another kind.
        """
        source = _source(pretrained_model_name_or_path, filename, cls.hub_file, revision)
        if isinstance(source, Path):
            return cls._read_hub_file(source)
        from snce.hub.transfer import download

        path = download(source, force_download, token, cache_dir, local_files_only, endpoint)
        try:
            return cls._read_hub_file(path)
        except SnceError as error:
            raise SnceError(
                f"{source} cannot be used: {error}; if only the copy here is damaged, force_download=True mends it"
            ) from error

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        filename: str | None = None,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write it into a folder, with a model card, README.md. A folder may hold several, each under its own name.

        A README.md that is there already keeps what others wrote in it: see `snce.hub.readme`.

        Args:
            filename: by default the class's `hub_file`.
            config: a dict or dataclass, written to config.json for other tools; snce reads none.
            repo_id: OWNER/NAME, the repository that it goes to. Its card then says how to get it from there.
            push_to_hub: also do that, to `repo_id`, which must be given then, and with `push_to_hub_kwargs`.
            model_card_kwargs: fields of the card's header: license, base_model, tags, language and so on.

        Returns:
            The address of the commit, if it was pushed.

        Raises:
            SnceError: a folder that cannot be read or written; if it is to be pushed, a `repo_id` that is missing or no
                such name, before anything is written, and all that `push_to_hub` raises.
        """
        from snce.hub.readme import merge
        from snce.storage import write_text

        folder, given = Path(save_directory), model_card_kwargs or {}
        filename = check_filename(filename or self.hub_file)
        if push_to_hub:
            if repo_id is None:
                raise SnceError('push_to_hub=True needs repo_id="OWNER/NAME", such as "alice/erasers"')
            check_repo(repo_id)
        readme = folder / README
        try:
            before = readme.read_text(encoding="utf-8") if readme.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise SnceError(f"cannot read {readme}, to keep what is in it: {error}") from error
        text = merge(before, self.generate_model_card(filename=filename, repo_id=repo_id, **given), filename, given)
        self._write_hub_file(folder / filename)
        if config is not None:
            fields = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
            write_text(folder / "config.json", json.dumps(fields, sort_keys=True, indent=2))
        write_text(readme, text)
        if not push_to_hub:
            return None
        options = {"filename": filename, "config": config, "model_card_kwargs": model_card_kwargs} | push_to_hub_kwargs
        return self.push_to_hub(str(repo_id), **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        filename: str | None = None,
        config: Any = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        allow_patterns: list[str] | str | None = None,
        ignore_patterns: list[str] | str | None = None,
        delete_patterns: list[str] | str | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Put it on the hub, with a model card, in one commit. The repository is made if it is not there.

        Args:
            repo_id: OWNER/NAME.
            filename: its name in the repository; by default the class's `hub_file`. Other files stay as they are.
            config: see `save_pretrained`.
            private: make the repository a private one. One that is public already is refused.
            token: a token of the hub that may write; by default the one of `hf auth login`.
            branch: commit to this branch, which must be there; by default the main one.
            create_pr: open a pull request, and leave the branch alone.
            allow_patterns: push only files that match.
            ignore_patterns: push no file that matches.
            delete_patterns: remove files of the repository that match, in the same commit.
            model_card_kwargs: see `save_pretrained`.
            endpoint: address of another hub than that of HF_ENDPOINT.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            SnceError: a name that is none; no access; a repository that is public though `private` was asked for, or
                that someone else changed meanwhile; a header of the card that the hub refuses; a hub out of reach.
        """
        from snce.hub.transfer import Push

        filename = check_filename(filename or self.hub_file)
        push = Push.begin(repo_id, private=private, token=token, branch=branch, endpoint=endpoint)
        with TemporaryDirectory() as name:
            folder = Path(name)
            push.fetch_readme(folder / README)
            self.save_pretrained(
                folder, filename=filename, config=config, repo_id=push.repo_id, model_card_kwargs=model_card_kwargs
            )
            return push.commit(
                folder,
                commit_message or f"Upload {filename}",
                create_pr=create_pr,
                allow_patterns=allow_patterns,
                ignore_patterns=ignore_patterns,
                delete_patterns=delete_patterns,
            )

    def generate_model_card(
        self, *, filename: str | None = None, repo_id: str | None = None, **fields: Any
    ) -> ModelCard:
        """The model card of the file `filename` in `repo_id`; no number is on it that is not in the file.

        Args:
            fields: of the header, in place of its own. The license is "unknown" unless given: its maker must say.
        """
        from huggingface_hub import ModelCard, ModelCardData

        body, described = self._describe_for_hub(check_filename(filename or self.hub_file), repo_id)
        header = {"license": "unknown", **described, **fields, "library_name": "snce"}
        header["tags"] = [*described.get("tags", ()), *fields.get("tags", ())]
        return ModelCard(f"---\n{ModelCardData(**header).to_yaml()}\n---\n\n{body}")


def _source(name: str | Path, filename: str | None, default: str, revision: str | None) -> Path | HubFile:
    """Where the file is: here, or on the hub."""
    if is_hub_uri(name):
        file = parse_hub_uri(str(name), filename or default)
        return HubFile(file.repo_id, check_filename(filename or file.filename), revision or file.revision)
    path = Path(name).expanduser()
    if path.is_file() and filename is None:
        return path
    filename = filename or default
    if path.is_dir():
        if not (path / filename).is_file():
            raise SnceError(f"{path} holds no {filename}{others(p.name for p in path.glob('*.safetensors'))}")
        return path / filename
    if hub_model(str(name)) is None:
        raise SnceError(f"{str(name)!r} is neither a folder here nor a repository on the hub, OWNER/NAME")
    return HubFile(str(name), check_filename(filename), revision)
