"""Tuning: every method's main setting, on validation concepts."""

from __future__ import annotations

import hashlib
import json
from math import isnan
from typing import TYPE_CHECKING, NamedTuple

from snce.bench.cells import Cell
from snce.bench.execute import part_of, run_cells
from snce.bench.lineup import METHODS
from snce.bench.measures import harmonic_mean
from snce.bench.prompts import Sizes
from snce.bench.rows import read_rows
from snce.demo.table import validation_concepts
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from snce.storage import read_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from snce.bench.cells import Bench
    from snce.engines.spread import Crew


class Tried(NamedTuple):
    """What was tried of a method's knob."""

    stamp: str
    """Of the prompts, the model and the method that were tried; empty in records that had none yet."""
    scores: dict[float, float]
    """Harmonic mean by value."""


TUNING_SIZES = Sizes(direct=6, synonym=0, sentence=6, pair=6, neighbour=6, other=8)
_SCORES = "harmonic mean by value"
_STAMP = "stamp"
TUNING_OBJECTS = 6


def tuning_concepts() -> list[str]:
    """The first of the validation objects, and the validation styles."""
    styles = vocabulary().styles
    objects = [name for name in validation_concepts() if name not in styles]
    return objects[:TUNING_OBJECTS] + [name for name in validation_concepts() if name in styles]


def read_tuned(path: Path) -> dict[str, Tried]:
    """What the tuned.json of another run says, by method.

    Raises:
        SnceError: it cannot be read, or is no such file.
    """
    record = read_json(path, "tuned.json of snce bench")
    try:
        found = {
            name: Tried(r.get(_STAMP, "").strip(), {float(v): float(s) for v, s in r[_SCORES].items()})
            for name, r in record.items()
        }
    except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError) as error:
        raise SnceError(f"{path} is no tuned.json of snce bench") from error
    if not all(0 <= score <= 1 for tried in found.values() for score in tried.scores.values()):
        raise SnceError(f"{path} is no tuned.json of snce bench: a harmonic mean is from 0 to 1")
    return found


def tune(
    bench: Bench, names: Sequence[str], crew: Crew, console: Console, earlier: Mapping[str, Tried] | None = None
) -> dict[str, float]:
    """The best value of each method's knob, by its harmonic mean on the pictures of all tuning concepts together.

    Writes DIR/tuned.json with the figures of the whole grid. Every method gets the same concepts, prompts and seeds;
    the grids have three to six values, the published one among them. A best value at the end of its grid is told: it
    may not be the best there is. What `earlier` has of the grid is taken from there, if it was tried with the same
    model, prompts and method.
    """
    folder = bench.folder / "tuning"
    concepts = tuning_concepts()
    grids, known, stamps = {}, {}, {}
    for name in (n for n in names if n in METHODS):  # ablations are what they are
        method = METHODS[name](bench.workshop)
        if method.knob is not None:
            grids[name] = method.knob.grid
            stamps[name] = stamp_of(bench, name, concepts)
            tried = (earlier or {}).get(name)
            known[name] = tried.scores if tried and tried.stamp == stamps[name] else {}
            if tried and not known[name]:
                console.print(f"{name} is tuned anew: it was tuned on other prompts or as another method", markup=False)
    untried = [(m, v) for m, grid in grids.items() for v in grid if v not in known[m]]
    cells = [Cell(m, v, (c,), TUNING_SIZES) for m, v in untried for c in concepts]
    run_cells(bench, cells, folder, crew, console, "tuning")
    record, best = {}, {}
    for name, grid in grids.items():
        scores = {v: known[name][v] if v in known[name] else _score(folder, name, v, concepts) for v in grid}
        best[name] = max(scores, key=scores.__getitem__)
        at_end = best[name] in (min(grid), max(grid))
        record[name] = {"chosen": best[name], "at the end of the grid": at_end, _SCORES: scores, _STAMP: stamps[name]}
        if at_end:
            console.print(f"{name}: the best value tried, {best[name]:g}, is at the end of its grid", markup=False)
    write_text(bench.folder / "tuned.json", json.dumps(record, indent=1) + "\n")
    return best


def stamp_of(bench: Bench, name: str, concepts: Sequence[str]) -> str:
    """Tells prompts, model and method apart; the method as it is before its knob is turned."""
    cells = [Cell(name, None, (c,), TUNING_SIZES) for c in concepts]
    told = [bench.recipe(cells[0]), *map(bench.stamp, cells)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _score(folder: Path, name: str, value: float, concepts: Sequence[str]) -> float:
    parts = [part_of(Cell(name, value, (c,), TUNING_SIZES), folder) for c in concepts]
    figure = harmonic_mean(read_rows(parts)[0])
    return 0.0 if isnan(figure) else figure  # no picture showed what it takes: nothing was achieved
