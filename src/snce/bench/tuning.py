"""Tuning: every method's main setting, on validation concepts; for one concept, and for several together."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any, NamedTuple

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

TUNING_SIZES = Sizes(direct=6, synonym=0, sentence=6, pair=6, neighbour=6, other=8)
SET_SIZES = Sizes(direct=2, synonym=0, sentence=2, pair=2, neighbour=2, other=48)
"""Prompts of the tuning set; all but `other` for each of its concepts."""
TUNING_OBJECTS = 6
TUNING_SET = 10
_SCORES = "harmonic mean by value"
_STAMP = "stamp"


class Tried(NamedTuple):
    """What was tried of a method's knob."""

    stamp: str
    """Of the prompts, the model and the method that were tried; empty in records that had none yet."""
    scores: dict[float, float]
    """Harmonic mean by value."""

    @property
    def best(self) -> float:
        """The value of the highest harmonic mean; the first of such."""
        return max(self.scores, key=self.scores.__getitem__)

    @property
    def at_end(self) -> bool:
        """Whether the best value is at an end of those that were tried."""
        return self.best in (min(self.scores), max(self.scores))

    def told(self) -> dict[str, Any]:
        """As tuned.json has it."""
        return {
            "chosen": self.best, "at the end of the grid": self.at_end, _SCORES: self.scores, _STAMP: self.stamp,
        }  # fmt: skip


class Task(NamedTuple):
    """What has a setting of its own: a method on one concept, or on several together."""

    method: str
    together: bool

    @property
    def name(self) -> str:
        """In tuned.json; no name of a method has a comma."""
        return f"{self.method}, sets" if self.together else self.method

    def cells(self, value: float | None) -> list[Cell]:
        """What is run to try `value`."""
        if self.together:
            return [Cell(self.method, value, tuple(tuning_set()), SET_SIZES)]
        return [Cell(self.method, value, (concept,), TUNING_SIZES) for concept in tuning_concepts()]


def task_of(cell: Cell) -> Task:
    """By what the cell's setting is chosen."""
    return Task(cell.method, cell.together)


def tuning_concepts() -> list[str]:
    """The first of the validation objects, and the validation styles."""
    styles = vocabulary().styles
    return _validation_objects()[:TUNING_OBJECTS] + [name for name in validation_concepts() if name in styles]


def tuning_set() -> list[str]:
    """The first of the validation objects: as sets are of objects."""
    return _validation_objects()[:TUNING_SET]


def _validation_objects() -> list[str]:
    return [name for name in validation_concepts() if name not in vocabulary().styles]


def read_tuned(path: Path) -> dict[str, Tried]:
    """What the tuned.json of another run says, by the name of the task.

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
    if not all(isfinite(value) for tried in found.values() for value in tried.scores):
        raise SnceError(f"{path} is no tuned.json of snce bench: a value that was tried is no finite number")
    return found


def tune(
    bench: Bench, cells: Sequence[Cell], crew: Crew, console: Console, earlier: Mapping[str, Tried] | None = None
) -> list[Cell]:
    """The cells, each with the best value of its method's knob.

    The best is that of the highest harmonic mean: for one concept, on the pictures of all tuning concepts together,
    each erased alone; for several, on those of the tuning set. Every method gets the same concepts, prompts and seeds;
    the grids have four to six values, the published one among them. A best value at the end of its grid is told: it may
    not be the best there is. What `earlier` has of a grid is taken from there, if it was tried with the same model,
    prompts and method. Writes DIR/tuned.json with the figures of all grids, and with what else `earlier` has.
    """
    folder = bench.folder / "tuning"
    grids, known, stamps = {}, {}, {}
    for task in dict.fromkeys(task_of(c) for c in cells if c.method in METHODS):  # ablations are what they are
        knob = METHODS[task.method](bench.workshop).knob
        if knob is not None:
            grids[task] = knob.grid
            stamps[task] = stamp_of(bench, task)
            tried = (earlier or {}).get(task.name)
            known[task] = tried.scores if tried and tried.stamp == stamps[task] else {}
            if tried and not known[task]:
                told = f"{task.name} is tuned anew: it was tuned on other prompts or as another method"
                console.print(told, markup=False)
    untried = [cell for task, grid in grids.items() for v in grid if v not in known[task] for cell in task.cells(v)]
    run_cells(bench, untried, folder, crew, console, "tuning")
    record, best = {name: tried.told() for name, tried in (earlier or {}).items() if tried.scores}, {}
    for task, grid in grids.items():
        tried = Tried(stamps[task], {v: known[task][v] if v in known[task] else _score(folder, task, v) for v in grid})
        best[task], record[task.name] = tried.best, tried.told()
        if tried.at_end:
            console.print(f"{task.name}: the best value tried, {tried.best:g}, is at the end of its grid", markup=False)
    write_text(bench.folder / "tuned.json", json.dumps(record, indent=1) + "\n")
    return [replace(cell, setting=best.get(task_of(cell))) for cell in cells]


def stamp_of(bench: Bench, task: Task) -> str:
    """Tells prompts, model and method apart; the method as it is before its knob is turned."""
    cells = task.cells(None)
    told = [bench.recipe(cells[0]), *map(bench.stamp, cells)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _score(folder: Path, task: Task, value: float) -> float:
    figure = harmonic_mean(read_rows([part_of(cell, folder) for cell in task.cells(value)])[0])
    return 0.0 if isnan(figure) else figure  # no picture showed what it takes: nothing was achieved
