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
from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from snce.bench.cells import Bench

TUNING_SIZES = Sizes(direct=6, synonym=0, sentence=6, pair=6, neighbour=6, other=8)
TUNING_CONCEPTS = 6
"""Validation objects on which every method's knob is tuned."""


def tune(bench: Bench, names: Sequence[str], workers: int, console: Console) -> dict[str, float]:
    """The best value of each method's knob, by its harmonic mean on the pictures of all validation concepts together.

    Writes DIR/tuned.json with the figures of the whole grid. Every method gets the same concepts, prompts and seeds;
    the grids have three to six values, the published one among them. A best value at the end of its grid is told: it
    may not be the best there is.
    """
    folder = bench.folder / "tuning"
    concepts = validation_concepts()[:TUNING_CONCEPTS]
    grids = {}
    for name in (n for n in names if n in METHODS):  # ablations are what they are
        method = METHODS[name](bench.workshop)
        if method.knob is not None:
            grids[name] = method.knob.grid
    cells = [Cell(m, v, (c,), TUNING_SIZES) for m, grid in grids.items() for v in grid for c in concepts]
    run_cells(bench, cells, folder, workers, console, "tuning")
    record, best = {}, {}
    for name, grid in grids.items():
        scores = {}
        for value in grid:
            parts = [folder / f"{Cell(name, value, (c,), TUNING_SIZES).key}.parquet" for c in concepts]
            figure = harmonic_mean(read_rows(parts)[0])
            scores[value] = 0.0 if isnan(figure) else figure  # no picture showed what it takes: nothing was achieved
        best[name] = max(scores, key=scores.__getitem__)
        at_end = best[name] in (min(grid), max(grid))
        record[name] = {"chosen": best[name], "at the end of the grid": at_end, "harmonic mean by value": scores}
        if at_end:
            console.print(f"{name}: the best value tried, {best[name]:g}, is at the end of its grid", markup=False)
    write_text(bench.folder / "tuned.json", json.dumps(record, indent=1) + "\n")
    return best
