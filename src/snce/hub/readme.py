"""README.md of a repository: the cards of its files, one after the other, below one header.

Each card stands between two comments that name its file. Merging a card replaces the one of the same file and leaves
the rest alone: other files' cards, and whatever people wrote around them.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from huggingface_hub import ModelCard

_HEADER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_LISTS = ("tags", "base_model")
LONGEST_HEADER = 200_000
"""Characters: it takes up to three hundred times as much memory. Those of cards have a thousand."""
DEEPEST_HEADER = 50
"""Lists and mappings within each other; the results that the hub shows take six."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is thirty times as fast, and not everywhere


class _Dumper(yaml.SafeDumper):
    """Writes out what is there several times: aliases are not read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def merge(text: str, card: ModelCard, filename: str, given: Mapping[str, Any]) -> str:
    """`text`, a README.md or nothing, with the card of the file `filename` in it.

    Args:
        given: fields of the header that were asked for. They replace what is there; the card's other fields do not, but
            for tags and base models, which add up.

    Raises:
        SnceError: the header that is there is no YAML mapping, or has a list or mapping among its tags or base models.
    """
    there, body = split(text)
    header = {**card.data.to_dict(), **there, **given}
    for name in _LISTS:
        values = [v for source in (there, card.data.to_dict()) for v in _as_list(source.get(name))]
        try:
            unique = list(dict.fromkeys(values))
        except TypeError as error:
            raise SnceError(f"the header of README.md has a list or mapping in {name!r}, mend it first") from error
        if unique:
            header[name] = unique[0] if len(unique) == 1 and name != "tags" else unique
    begin, end = f"<!-- snce: card of {filename} -->", f"<!-- snce: end of {filename} -->"
    section = f"{begin}\n\n{card.text.strip()}\n\n{end}"
    # the last begin before the end: of a card that was cut, what follows is not ours
    old = re.compile(f"{re.escape(begin)}(?:(?!{re.escape(begin)}).)*?{re.escape(end)}", re.DOTALL)
    if old.search(body):
        body = old.sub(lambda _: section, body, count=1)
    else:
        body = "\n\n".join(part for part in (body.strip(), section) if part)
    with _damage_is_named():
        fields = yaml.dump(header, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return f"---\n{fields}---\n\n{body.strip()}\n"


def split(text: str) -> tuple[dict[str, Any], str]:
    """(header, body) of a README.md.

    Raises:
        SnceError: the header is no YAML mapping; it has aliases, or is longer or deeper than any card's.
    """
    found = _HEADER.match(text)
    if found is None:
        return {}, text
    with _damage_is_named():
        header = _load(found[1]) or {}
    if not isinstance(header, dict):
        raise SnceError("the header of README.md is no list of fields, mend it first")
    return header, text[found.end() :]


def _load(text: str) -> Any:
    """Aliases are refused: a few of them stand for more text than any memory holds."""
    if len(text) > LONGEST_HEADER:
        raise ValueError(f"it is longer than {LONGEST_HEADER} characters")
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"it has the alias *{event.anchor}: write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_HEADER:
            raise ValueError("it is nested too deeply")
    return yaml.load(text, Loader=_LOADER)


@contextmanager
def _damage_is_named() -> Iterator[None]:
    try:
        yield
    # of a value that is none of its kind, as 2024-13-45 is no date, PyYAML lets through what Python says
    except (yaml.YAMLError, ValueError, LookupError, ArithmeticError, AttributeError, TypeError) as error:
        told = " ".join(str(error).split())[:200]
        raise SnceError(f"the header of README.md is no YAML, mend it first: {told}") from error
    except RecursionError as error:
        raise SnceError("the header of README.md is nested too deeply, mend it first") from error


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
