"""Names of files on the hub: hf://OWNER/NAME[@REVISION][/FILE.safetensors], as huggingface_hub's tools write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEME = "hf://"
_REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_FILE = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*\.safetensors", re.ASCII)
_REVISION = re.compile(r"refs/(?:pr/\d+|convert/[\w.-]+)(?=/|$)|[^/]+")  # the refs are the ones with a / in them


class HubFile(NamedTuple):
    """A file in a repository of models."""

    repo_id: str
    """OWNER/NAME."""
    filename: str
    """Its path in the repository."""
    revision: str | None = None
    """Branch, tag or commit; None for the newest of the main branch."""

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{SCHEME}{self.repo_id}{revision}/{self.filename}"


def is_hub_uri(name: str | Path) -> bool:
    return isinstance(name, str) and name.startswith(SCHEME)


def hub_model(name: str) -> str | None:
    """`name`, if it can only mean a model on the hub: OWNER/NAME, and no folder here."""
    return name if _REPO.fullmatch(name) and not Path(name).exists() else None


def parse_hub_uri(uri: str, default: str) -> HubFile:
    """The file that `uri` names; where it names a repository only, the file `default` in it.

    Raises:
        SnceError: it is not of the form hf://OWNER/NAME[@REVISION][/FILE.safetensors].
    """
    head, _, revised = uri.removeprefix(SCHEME).removeprefix("models/").partition("@")
    if revised:
        found = _REVISION.match(revised)
        revision, rest = (found[0], revised[found.end() :]) if found else ("", "")
        repo_id, filename = head, rest.removeprefix("/")
    else:
        owner, name, *path = [*head.split("/", 2), ""][:3]
        repo_id, revision, filename = f"{owner}/{name}", None, "".join(path)
    if revision == "" or uri.endswith("@") or not _REPO.fullmatch(repo_id):
        raise SnceError(f"{uri} is no name of a file on the hub; write hf://OWNER/NAME[@REVISION]/FILE.safetensors")
    return HubFile(repo_id, check_filename(filename or default), revision)


def others(names: Iterable[str]) -> str:
    """The end of a sentence that says what safetensors files there are instead; empty if there is none."""
    there = sorted(name for name in names if name.endswith(".safetensors"))
    return f"; it holds {', '.join(there)}" if there else ""


def check_repo(repo_id: str) -> str:
    """`repo_id` itself.

    Raises:
        SnceError: it is not of the form OWNER/NAME.
    """
    if not _REPO.fullmatch(repo_id):
        raise SnceError(f"{repo_id!r} is no repository on the hub; write OWNER/NAME, such as alice/erasers")
    return repo_id


def check_filename(filename: str) -> str:
    """`filename` itself. Nothing but safetensors files is read from the hub: no other format is free of code.

    Raises:
        SnceError: it is no plain path of a safetensors file inside a repository.
    """
    if not _FILE.fullmatch(filename):
        raise SnceError(
            f"{filename!r} is no name for a file on the hub; it takes letters, digits, '_', '-', '.' and '/', and ends "
            "in .safetensors"
        )
    return filename
