"""The summary of a benchmark run: figures of every method, as JSON and as a table."""

from __future__ import annotations

import hashlib
import json
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from snce.bench.bootstrap import Interval, bootstrap, difference
from snce.bench.costs import cost_cells, cost_figures
from snce.bench.lineup import OURS
from snce.bench.measures import MEASURES, basis, harmonic_mean
from snce.bench.rows import SEPARATOR
from snce.demo.table import validation_concepts
from snce.emblem.vocabulary import vocabulary
from snce.storage import strict_json, write_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from snce.bench.measures import Columns

COLUMNS = ("harmonic mean", "erased: direct", "erased: synonym", "erased: sentence", "kept: others",
           "kept: neighbours", "kept: styles", "pair precision", "identical", "fréchet distance")  # fmt: skip
"""Measures in the table of a group, in this order."""
CHANGES = ("identical", "psnr of the changed", "perceptual distance of the changed", "fréchet distance")
"""Measures in the table of what happens to retained pictures."""
_SHARES = set(COLUMNS) - {"fréchet distance"}
BY_SET = "harmonic mean by set"
SETS = "sets"
BASIS = "pictures by kind"
STAMP = "stamp"
AHEAD = f"harmonic mean of {OURS} less its own"
NOT_MEASURED = Interval(*(float("nan"),) * 3)

VALIDATION = "Validation concepts"
VALIDATION_STYLES = "Styles that chose settings"
KEPT_APART = (VALIDATION, VALIDATION_STYLES)
"""Titles of what chose settings; the second where styles only are there, as in a default run."""


def groups(erased: Iterable[str]) -> dict[str, set[str]]:
    """What is summed up together: titles, and sets of erased concepts. Those that chose settings are kept apart."""
    words, kept_back = vocabulary(), set(validation_concepts())
    sets = {name: set(name.split(SEPARATOR)) for name in erased}
    counts = sorted({len(s) for s in sets.values()})
    alone = {name for name, s in sets.items() if len(s) == 1} - kept_back
    chose = kept_back & sets.keys()
    found = {
        "One concept at a time": alone,
        "Harmful stand-ins": {name for name in alone if name in words.objects and words.objects[name].harmful},
        "Other objects": {name for name in alone if name in words.objects and not words.objects[name].harmful},
        "Styles": alone & set(words.styles),
        **{f"{n} concepts together": {name for name, s in sets.items() if len(s) == n} for n in counts if n > 1},
        VALIDATION_STYLES if chose <= set(words.styles) else VALIDATION: chose,
    }
    return {title: members for title, members in found.items() if members}


def summarise(
    columns: Columns,
    metadata: Sequence[dict[str, str]],
    added_times: Mapping[tuple[str, int], float] | None = None,
    samples: int = 1000,
) -> dict[str, Any]:
    """Per group of erased concepts and per method: every measure with its interval, and the costs.

    Args:
        columns, metadata: of `read_rows`.
        added_times: by method and number of concepts that were erased; what is not there has no time in the table.
    """
    result: dict[str, Any] = {}
    for title, members in groups(dict.fromkeys(columns["erased"].tolist())).items():
        methods = result[title] = {}
        count = len(next(iter(members)).split(SEPARATOR))  # the same for all members of a group
        found = _by_method(columns, members)
        for method, rows in found.items():
            own = [m for m in metadata if m["erased"] in members and m["method"] == method]
            costs = {m["erased"]: json.loads(m["cost"]) for m in own}
            methods[method] = {
                "setting": float(rows["setting"][0]),
                SETS: len(set(rows["erased"].tolist())),
                "pictures": len(rows["erased"]),
                BASIS: basis(rows),
                **{name: i._asdict() for name, i in bootstrap(rows, MEASURES, samples).items()},
                AHEAD: _ahead(found, method, samples)._asdict(),
                **cost_figures(costs, (added_times or {}).get((method, count), float("nan"))),
                BY_SET: _by_set(rows),
                STAMP: _stamp({m["erased"]: m["stamp"] for m in own}),
            }
    return result


def _by_method(columns: Columns, members: Collection[str]) -> dict[str, Columns]:
    """The rows of each method that has any on these sets."""
    here = _take(columns, np.isin(columns["erased"], list(members)))
    return {name: _take(here, here["method"] == name) for name in dict.fromkeys(here["method"].tolist())}


def _ahead(found: Mapping[str, Columns], method: str, samples: int) -> Interval:
    """How far ours is ahead of the method, where both drew the same prompts."""
    ours, own = found.get(OURS), found[method]
    if ours is None or method == OURS or ours["erased"].tolist() != own["erased"].tolist():
        return NOT_MEASURED
    return difference(ours, own, harmonic_mean, samples)


def _take(columns: Columns, chosen: np.ndarray) -> Columns:
    return {name: column[chosen] for name, column in columns.items()}


def _by_set(rows: Columns) -> dict[str, float]:
    names = dict.fromkeys(rows["erased"].tolist())
    return {name: harmonic_mean(_take(rows, rows["erased"] == name)) for name in names}


def group_stamps(stamps: Mapping[str, str]) -> dict[str, str]:
    """By title of the group, the stamp that `summarise` gives a method that has drawn all of it.

    stamps: of `Bench.stamp`, by the erased concepts as the rows have them.
    """
    return {title: _stamp({name: stamps[name] for name in members}) for title, members in groups(stamps).items()}


def _stamp(by_set: Mapping[str, str]) -> str:
    """The same for methods that drew the same prompts with the same model, and were judged by the same judge."""
    sets = sorted(f"{erased}: {stamp}" for erased, stamp in by_set.items())
    return hashlib.sha256("\n".join(sets).encode()).hexdigest()[:16]


def markdown(summary: dict[str, Any]) -> str:
    """An overview if there is more than one group, then one table per group, the best harmonic mean first, without the
    measures that no method has; at the end what happens to retained pictures, in the first group."""
    tables = [overview(summary)] if len(summary) > 1 else []
    for title, methods in summary.items():
        first, *others = measured(methods, COLUMNS)
        head = ("method", "setting", first, f"{OURS} ahead by", *others, "to prepare", "size", "time")
        lines = [f"### {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for name, found in sorted(methods.items(), key=lambda item: -_rank(item[1])):
            setting = "-" if found["setting"] != found["setting"] else f"{found['setting']:g}"
            cells = (told(name, methods), setting, figure_cells(found, (first,)), ahead_cell(found),
                     figure_cells(found, others), cost_cells(found))  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        tables.append("\n".join(lines))
        most = max((found.get(BASIS, {}) for found in methods.values()), key=lambda counts: sum(counts.values()))
        if most:
            counts = ", ".join(f"{n} {kind}" for kind, n in most.items())
            tables.append(f"Pictures that the shares rest on, by kind of prompt: {counts}.")
    tables.append(changes(*next(iter(summary.items()))))
    return "\n\n".join(tables) + "\n"


def measured(methods: Mapping[str, dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """The first of the columns, and those others in which any method has a figure."""
    first, *others = columns
    return [first, *(c for c in others if any(isfinite(Interval(**f[c]).value) for f in methods.values()))]


def overview(summary: dict[str, Any]) -> str:
    """A table of the harmonic means: a row per method, a column per group; the best of the first group first."""
    first = next(iter(summary.values()))
    lines = ["### Harmonic mean", "", "| method | " + " | ".join(summary) + " |", "|---" * (len(summary) + 1) + "|"]
    for name in sorted(first, key=lambda name: -_rank(first[name])):
        found = [methods.get(name, {"harmonic mean": NOT_MEASURED._asdict()}) for methods in summary.values()]
        cells = " | ".join(figure_cells(f, ("harmonic mean",)) for f in found)
        lines.append(f"| {told(name, first)} | {cells} |")
    return "\n".join(lines)


def changes(title: str, methods: dict[str, Any]) -> str:
    """A table of how far retained pictures change: the fewest changed first, then the least."""
    lines = [f"### Retained pictures: {title[0].lower()}{title[1:]}", "", f"| method | {' | '.join(CHANGES)} |",
             "|---" * (len(CHANGES) + 1) + "|"]  # fmt: skip

    def order(name: str) -> tuple[float, float]:
        share, distance = (methods[name][measure]["value"] for measure in (CHANGES[0], CHANGES[-1]))
        return (-share, distance) if isfinite(share) else (1.0, 0.0)

    for name in sorted(methods, key=order):
        lines.append(f"| {told(name, methods)} | {figure_cells(methods[name], CHANGES)} |")
    return "\n".join(lines)


def told(method: str, methods: dict[str, Any]) -> str:
    """The method's name; with how many sets of concepts it was measured on, where others of the group have more: a run
    that goes on, or shards that are to come. Such figures do not compare."""
    own, most = methods[method][SETS], max(found[SETS] for found in methods.values())
    return method if own == most else f"{method} ({own} of {most} sets)"


def _rank(found: dict[str, Any]) -> float:
    value = found["harmonic mean"]["value"]
    return value if value == value else -1.0


def figure_cells(found: dict[str, Any], columns: Sequence[str]) -> str:
    """The cells of a table's row."""
    return " | ".join(_cell(column, Interval(**found[column])) for column in columns)


def _cell(column: str, figure: Interval) -> str:
    if not isfinite(figure.value):  # not measured, or the PSNR of no picture
        return "-"
    if column in _SHARES:
        return f"{100 * figure.value:.1f} ({100 * figure.low:.0f} to {100 * figure.high:.0f})"
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def ahead_cell(found: dict[str, Any]) -> str:
    """The cell that says how far ours is ahead: to a tenth, since readers ask whether zero is between the ends."""
    figure = Interval(**found[AHEAD])
    if figure.value != figure.value:
        return "-"
    value, low, high = (100 * x for x in figure)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """DIR/summary.json, with null where nothing was measured, and DIR/table.md."""
    write_text(folder / "summary.json", strict_json(summary) + "\n")
    write_text(folder / "table.md", markdown(summary))
