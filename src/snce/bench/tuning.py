"""Tuning: every method's main setting, on validation concepts."""

from __future__ import annotations

import json
from math import isnan
from typing import TYPE_CHECKING

from snce.bench.cells import Cell
from snce.bench.execute import run_cells
from snce.bench.lineup import METHODS
from snce.bench.measures import harmonic_mean
from snce.bench.prompts import Sizes
from snce.bench.rows import read_rows
from snce.demo.table import validation_concepts
from snce.errors import SnceError
from snce.storage import read_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from snce.bench.cells import Bench
    from snce.engines.spread import Crew

    Earlier = Mapping[str, Mapping[float, float]]
    """Harmonic means by method and value."""

TUNING_SIZES = Sizes(direct=6, synonym=0, sentence=6, pair=6, neighbour=6, other=8)
_SCORES = "harmonic mean by value"
TUNING_CONCEPTS = 6
"""Validation objects on which every method's knob is tuned."""


def read_tuned(path: Path) -> Earlier:
    """Harmonic means by method and value of its knob, from the tuned.json of another run.

    Raises:
        SnceError: it cannot be read, or is no such file.
    """
    record = read_json(path, "tuned.json of snce bench")
    try:
        found = {name: {float(v): float(s) for v, s in r[_SCORES].items()} for name, r in record.items()}
    except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError) as error:
        raise SnceError(f"{path} is no tuned.json of snce bench") from error
    if not all(0 <= score <= 1 for scores in found.values() for score in scores.values()):
        raise SnceError(f"{path} is no tuned.json of snce bench: a harmonic mean is from 0 to 1")
    return found


def tune(
    bench: Bench, names: Sequence[str], crew: Crew, console: Console, earlier: Earlier | None = None
) -> dict[str, float]:
    """The best value of each method's knob, by its harmonic mean on the pictures of all validation concepts together.

    Writes DIR/tuned.json with the figures of the whole grid. Every method gets the same concepts, prompts and seeds;
    the grids have three to six values, the published one among them. A best value at the end of its grid is told: it
    may not be the best there is. What `earlier` has of the grid is taken from there.
    """
    earlier = earlier or {}
    folder = bench.folder / "tuning"
    concepts = validation_concepts()[:TUNING_CONCEPTS]
    grids = {}
    for name in (n for n in names if n in METHODS):  # ablations are what they are
        method = METHODS[name](bench.workshop)
        if method.knob is not None:
            grids[name] = method.knob.grid
    untried = [(m, v) for m, grid in grids.items() for v in grid if v not in earlier.get(m, {})]
    cells = [Cell(m, v, (c,), TUNING_SIZES) for m, v in untried for c in concepts]
    run_cells(bench, cells, folder, crew, console, "tuning")
    record, best = {}, {}
    for name, grid in grids.items():
        scores = {}
        for value in grid:
            known = earlier.get(name, {}).get(value)
            scores[value] = _score(folder, name, value, concepts) if known is None else known
        best[name] = max(scores, key=scores.__getitem__)
        at_end = best[name] in (min(grid), max(grid))
        record[name] = {"chosen": best[name], "at the end of the grid": at_end, _SCORES: scores}
        if at_end:
            console.print(f"{name}: the best value tried, {best[name]:g}, is at the end of its grid", markup=False)
    write_text(bench.folder / "tuned.json", json.dumps(record, indent=1) + "\n")
    return best


def _score(folder: Path, name: str, value: float, concepts: Sequence[str]) -> float:
    parts = [folder / f"{Cell(name, value, (c,), TUNING_SIZES).key}.parquet" for c in concepts]
    figure = harmonic_mean(read_rows(parts)[0])
    return 0.0 if isnan(figure) else figure  # no picture showed what it takes: nothing was achieved
