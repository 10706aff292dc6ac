"""Training what methods share and running cells, in this process or in several. What is there is not made again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from snce.bench.cells import MAKERS, Bench
from snce.bench.lineup import FOR_SETS
from snce.bench.rows import SEPARATOR, read_metadata, write_rows
from snce.demo.grid import save_png
from snce.engines.spread import spread
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from snce.bench.cells import Cell
    from snce.bench.lineup import Workshop
    from snce.engines.spread import Crew


def train_shared(bench: Bench, names: Sequence[str], crew: Crew, console: Console) -> None:
    """Train the SAEs that methods of these names share and the folder lacks; several at once."""
    from rich.progress import Progress

    if crew.is_this_process:
        for name in names:
            _make(bench.workshop, name)
        return
    with Progress(console=console, transient=True) as bar:
        items = ((name,) for name in names)
        made = spread(crew.engine, crew.workers, _Worker.start, (bench.folder.absolute(),), _Worker.make, items)
        for _ in bar.track(made, total=len(names), description="SAEs of the methods"):
            pass


def _make(workshop: Workshop, name: str) -> None:
    """The method for one concept and, where it is another, for several: each trains what it needs."""
    MAKERS[name](workshop)
    if name in FOR_SETS:
        FOR_SETS[name](workshop)


def run_cells(bench: Bench, cells: Sequence[Cell], folder: Path, crew: Crew, console: Console, title: str) -> None:
    """Run the cells whose files are not in `folder` yet."""
    from rich.progress import Progress

    pending = [cell for cell in cells if not is_done(bench, cell, folder)]
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=len(cells), completed=len(cells) - len(pending))
        for _ in _finished(bench, pending, folder, crew):
            bar.advance(task)


def is_done(bench: Bench, cell: Cell, folder: Path) -> bool:
    """Whether its rows are there: of these weights, prompts and settings."""
    path = part_of(cell, folder)
    if not path.exists():
        return False
    try:
        told = read_metadata(path)
    except SnceError:  # damaged, or of another version: it is made again
        return False
    return told.get("stamp") == bench.stamp(cell) and told.get("recipe") == bench.recipe(cell)


def part_of(cell: Cell, folder: Path) -> Path:
    """The file of the cell's rows."""
    return folder / f"{cell.key}.parquet"


def _finished(bench: Bench, cells: list[Cell], folder: Path, crew: Crew) -> Iterator[Cell]:
    if crew.is_this_process or not cells:
        for cell in cells:
            run_cell(bench, cell, folder)
            yield cell
        return
    items = ((cell, folder.absolute()) for cell in cells)
    yield from spread(crew.engine, crew.workers, _Worker.start, (bench.folder.absolute(),), _Worker.run, items)


def run_cell(bench: Bench, cell: Cell, folder: Path) -> None:
    """Run one cell; write its strip of pictures, then its rows: the file by which the cell counts as done."""
    rows, cost, strip = bench.run(cell)
    save_png(strip, folder / f"{cell.key}.png")
    metadata = {"method": cell.method, "erased": SEPARATOR.join(cell.erased), "cost": json.dumps(asdict(cost)),
                "stamp": bench.stamp(cell), "recipe": bench.recipe(cell)}  # fmt: skip
    write_rows(part_of(cell, folder), rows, metadata)


class _Worker:
    """A process with a bench of its own."""

    bench: Bench

    @classmethod
    def start(cls, folder: Path) -> None:
        cls.bench = Bench(folder)

    @classmethod
    def make(cls, name: str) -> None:
        _make(cls.bench.workshop, name)

    @classmethod
    def run(cls, cell: Cell, folder: Path) -> Cell:
        run_cell(cls.bench, cell, folder)
        return cell
