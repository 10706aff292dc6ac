"""Reading a concept file, event by event: nothing of YAML is built but the prompts themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from snce.errors import SnceError
from snce.storage import MOST_TEXT

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ("name", "targets", "neutrals", "harmful")
_LISTS = ("targets", "neutrals")
_TEXT, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is thirty times as fast, and not everywhere


def read_concept_file(path: Path) -> dict[str, Any]:
    """What a concept file says: `name` and `harmful` a text or None, `targets` and `neutrals` a list of texts.

    Aliases are refused: a few of them stand for more text than any memory holds.

    Raises:
        SnceError: the file cannot be read, or is no such file.
    """
    try:
        if path.stat().st_size > MOST_TEXT:
            raise SnceError(f"{path} is larger than {MOST_TEXT // 10**6} MB: a concept takes some hundred prompts")
        with path.open("rb") as file:
            loader = _LOADER(file)
            try:
                return _read(loader, path)
            finally:
                loader.dispose()
    except OSError as error:
        raise SnceError(f"cannot read concept file {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, SnceError):
            raise
        raise SnceError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from error


def _read(loader: Any, path: Path) -> dict[str, Any]:
    loader.get_event()  # the stream begins
    found: dict[str, Any] = {}
    if not isinstance(loader.get_event(), yaml.DocumentStartEvent) or not isinstance(
        loader.get_event(), yaml.MappingStartEvent
    ):
        raise SnceError(f"{path} must hold a mapping with the keys name, targets and neutrals")
    while not isinstance(event := loader.get_event(), yaml.MappingEndEvent):
        key = event.value if isinstance(event, yaml.ScalarEvent) else None
        if key not in KEYS:
            raise SnceError(f"{path} has unknown keys: {'no text' if key is None else key[:60]}")
        if key in found:
            raise SnceError(f"{path} has {key!r} twice")
        found[key] = _prompts(loader, key, path) if key in _LISTS else _scalar(loader, loader.get_event(), key, path)
    loader.get_event()  # the document ends
    if not isinstance(loader.get_event(), yaml.StreamEndEvent):
        raise SnceError(f"{path} holds several documents: give each concept a file of its own")
    return found


def _prompts(loader: Any, key: str, path: Path) -> list[str]:
    event = loader.get_event()
    if isinstance(event, yaml.ScalarEvent) and _tag(loader, event) == _NULL:
        return []
    if not isinstance(event, yaml.SequenceStartEvent):
        raise _no_list(event, key, path)
    prompts = []
    while not isinstance(event := loader.get_event(), yaml.SequenceEndEvent):
        if not isinstance(event, yaml.ScalarEvent) or _tag(loader, event) != _TEXT:
            raise _no_list(event, key, path)
        prompts.append(event.value.strip())
    return [prompt for prompt in prompts if prompt]


def _no_list(event: Any, key: str, path: Path) -> SnceError:
    if isinstance(event, yaml.AliasEvent):
        return SnceError(f"{path}: {key!r} has the alias *{event.anchor[:60]}: write the prompts out")
    told = f"; {event.value[:60]!r} is none: put it in quotes" if isinstance(event, yaml.ScalarEvent) else ""
    return SnceError(f"{path}: {key!r} must be a list of prompts{told}")


def _scalar(loader: Any, event: Any, key: str, path: Path) -> str | None:
    if not isinstance(event, yaml.ScalarEvent):
        raise SnceError(f"{path}: {key!r} must be a text")
    return None if _tag(loader, event) == _NULL else event.value


def _tag(loader: Any, event: Any) -> str:
    if event.tag is not None and event.tag != "!":
        return event.tag
    return loader.resolve(yaml.ScalarNode, event.value, event.implicit)
