"""The time that a method adds to a picture, in turns with the base model: what else the machine does slows both."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any

from snce.bench.lineup import BASE, METHODS
from snce.demo.pictures import BATCH, draw
from snce.errors import SnceError
from snce.storage import read_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rich.console import Console

    from snce.bench.cells import Bench, Cell

TURNS = 3
"""Batches with and without the method; the median of their ratios counts."""


def added_times(bench: Bench, cells: Sequence[Cell], console: Console) -> dict[tuple[str, int], float]:
    """By method and number of concepts, the share of a picture's time that it adds, on the first of its cells.

    Writes a file for each in DIR/times; what is there is not measured again. The method is fitted once more for it.
    """
    from rich.progress import track

    first = {cell.method: cell for cell in reversed(cells) if cell.method in METHODS}  # ablations cost what they ablate
    found = {}
    for name, cell in track(first.items(), "added times", console=console, transient=True):
        found[name, len(cell.erased)] = 0.0 if name == BASE else _kept(bench, cell)
    return found


def _kept(bench: Bench, cell: Cell) -> float:
    path, stamp = bench.folder / "times" / f"{cell.key}.json", f"{bench.stamp(cell)} {bench.recipe(cell)}"
    ratios = _read(path, stamp)
    if ratios is None:
        ratios = _measured(bench, cell)
        write_text(path, json.dumps({"stamp": stamp, "seconds with over seconds without": ratios}) + "\n")
    return median(ratios) - 1


def _read(path: Path, stamp: str) -> list[float] | None:
    """None where there is none of this stamp: a damaged record is made again."""
    try:
        record: Any = read_json(path, "times of snce bench") if path.exists() else {}
        return [float(r) for r in record["seconds with over seconds without"]] if record["stamp"] == stamp else None
    except (SnceError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError):
        return None


def _measured(bench: Bench, cell: Cell) -> list[float]:
    pipe = bench.workshop.lab.pipe
    prompts = bench.prompts(cell)[:BATCH]
    method, concepts = bench.made(cell)
    erasure = method.prepare(pipe, concepts)

    def seconds(attached: AbstractContextManager[Any]) -> float:
        with attached:
            start = time.process_time()
            draw(pipe, prompts)
            return time.process_time() - start

    ratios = []
    for _ in range(TURNS):
        without = seconds(nullcontext())
        ratios.append(seconds(erasure.attached(pipe)) / without)
    return ratios
