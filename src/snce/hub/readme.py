"""README.md of a repository: the cards of its files, one after the other, below one header.

Each card stands between two comments that name its file. Merging a card replaces the one of the same file and leaves
the rest alone: other files' cards, and whatever people wrote around them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from huggingface_hub import ModelCard

_HEADER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_LISTS = ("tags", "base_model")


def merge(text: str, card: ModelCard, filename: str, given: Mapping[str, Any]) -> str:
    """`text`, a README.md or nothing, with the card of the file `filename` in it.

    Args:
        given: fields of the header that were asked for. They replace what is there; the card's other fields do not, but
            for tags and base models, which add up.

    Raises:
        SnceError: the header that is there is no YAML mapping.
    """
    there, body = split(text)
    header = {**card.data.to_dict(), **there, **given}
    for name in _LISTS:
        values = [v for source in (there, card.data.to_dict()) for v in _as_list(source.get(name))]
        unique = list(dict.fromkeys(values))
        if unique:
            header[name] = unique[0] if len(unique) == 1 and name != "tags" else unique
    begin, end = f"<!-- snce: card of {filename} -->", f"<!-- snce: end of {filename} -->"
    section = f"{begin}\n\n{card.text.strip()}\n\n{end}"
    old = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if old.search(body):
        body = old.sub(lambda _: section, body, count=1)
    else:
        body = "\n\n".join(part for part in (body.strip(), section) if part)
    fields = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{fields}---\n\n{body.strip()}\n"


def split(text: str) -> tuple[dict[str, Any], str]:
    """(header, body) of a README.md.

    Raises:
        SnceError: the header is no YAML mapping.
    """
    found = _HEADER.match(text)
    if found is None:
        return {}, text
    try:
        header = yaml.safe_load(found[1]) or {}
    except yaml.YAMLError as error:
        raise SnceError(f"the header of README.md is no YAML, mend it first: {' '.join(str(error).split())}") from error
    if not isinstance(header, dict):
        raise SnceError("the header of README.md is no list of fields, mend it first")
    return header, text[found.end() :]


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
