"""Which column of a prompt file is what, and what its values must be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from snce.bench.suites.sources import read_rows
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = {
    "text": ("prompt", "caption", "text"),
    "seed": ("evaluation_seed", "sd_seed", "seed"),
    "guidance": ("evaluation_guidance", "sd_guidance_scale", "guidance_scale", "guidance"),
    "categories": ("categories", "category"),
    "object": ("object", "class", "label"),
    "style": ("style", "theme"),
}
"""The names under which a column is looked for; the first that is there counts."""

NEEDED = {
    "i2p": ("text", "seed"),
    "coco": ("text",),
    "imagenette": ("object",),
    "unlearncanvas-style": ("object", "style"),
}
"""What the prompts of a suite cannot do without."""


class Fields(NamedTuple):
    """One row. Text, object, style and categories are "" where there are none."""

    text: str
    seed: int
    """The number of the row, counted from 0, where there is none."""
    guidance: float | None
    object: str
    style: str
    categories: str


def read_fields(suite: str, source: str, category: str = "") -> Iterator[Fields]:
    """The rows of a prompt file or data set.

    Raises:
        SnceError: a source that cannot be read, a column that is missing, or a value that is no number.
    """
    names: dict[str, str] = {}
    wanted = [c for choices in COLUMNS.values() for c in choices]
    for i, row in enumerate(read_rows(source, wanted)):
        if not names:
            names = _names(suite, source, row, category)
        values = {key: row[column] for key, column in names.items()}
        if not any(map(_text, values.values())):
            continue
        where = f"{source}, row {i + 1}"
        for key in NEEDED[suite]:
            if key != "text" and _text(values[key]) == "":
                raise SnceError(f"{where} has no {names[key]}")
        seed, guidance = values.get("seed"), values.get("guidance")
        text, object_, style, categories = (
            _text(values.get(key)) for key in ("text", "object", "style", "categories")
        )  # fmt: skip
        yield Fields(
            text,
            i if _text(seed) == "" else _seed(seed, f"{where}: {names['seed']}"),
            None if _text(guidance) == "" else _number(guidance, f"{where}: {names['guidance']}"),
            object_,
            style,
            categories,
        )


def _names(suite: str, source: str, row: dict[str, Any], category: str) -> dict[str, str]:
    """The name of each column that is there, by what it is for."""
    names = {key: next((c for c in choices if c in row), "") for key, choices in COLUMNS.items()}
    for key in (*NEEDED[suite], *(("categories",) if category else ())):
        if not names[key]:
            raise SnceError(
                f"{source} has no column {' or '.join(COLUMNS[key])}, which the suite {suite} needs; it has "
                f"{', '.join(filter(None, row))[:200] or 'none'}"
            )
    return {key: name for key, name in names.items() if name}


def _text(value: Any) -> str:
    """Some caption data sets have several captions for a picture: the first."""
    if isinstance(value, list | tuple):
        value = value[0] if value else ""
    return "" if value is None else str(value).strip()


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise SnceError(f"{where} {repr(value)[:60]} is not a number")
    return number


def _seed(value: Any, where: str) -> int:
    """Spreadsheets write whole numbers as 12.0; a float would lose the digits of a large one."""
    try:
        seed = int(str(value))
    except ValueError:
        number = _number(value, where)
        seed = int(number) if number.is_integer() else -1
    if not 0 <= seed < 2**63:
        raise SnceError(f"{where} {repr(value)[:60]} must be a whole number from 0 to 2^63 - 1")
    return seed
