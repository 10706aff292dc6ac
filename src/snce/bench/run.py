"""Running the precision suite: tune the methods on validation concepts, then judge them on others.

Every cell writes a file of its own when it is done, and a cell whose file is there is not run again: so a run can be
interrupted, go on, and be shared among machines (`shard`).
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch

from snce.bench.cells import Bench, Cell
from snce.bench.lineup import BASE, METHODS
from snce.bench.measures import harmonic_mean
from snce.bench.prompts import Sizes
from snce.bench.rows import read_rows, write_rows
from snce.demo.table import validation_concepts
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

TUNING_SIZES = Sizes(direct=6, synonym=0, sentence=6, pair=6, neighbour=6, other=12)
TUNING_CONCEPTS = 6
"""Validation objects on which every method's knob is tuned."""


@dataclass(frozen=True)
class BenchConfig:
    """Compare concept-erasure methods on Emblem: same prompts, same seeds, same judge."""

    out: Path = Path("bench")
    """Folder for the results; a run that was interrupted goes on from what is there."""
    methods: str = "all"
    """ "all", or names with commas between them."""
    concepts: str = "default"
    """ "default" (12 harmful stand-ins, 12 objects, all styles), or names with commas between them."""
    sets: str = "1,5,10,25"
    """How many concepts are erased together, with commas between the numbers."""
    shard: str = "1/1"
    """This machine's share of the work: 3/8 is the third of eight. Put the parts of all into one folder to sum up."""
    workers: int = 1
    """Processes; one per core is best."""
    tune: bool = True
    """Tune every method's knob on validation concepts first."""


def test_concepts() -> list[str]:
    """12 harmful stand-ins, 12 other objects, and the styles: none of them among the validation concepts."""
    words, kept_back = vocabulary(), set(validation_concepts())
    rng = Random("bench concepts")
    harmful = [n for n, o in words.objects.items() if o.harmful and n not in kept_back]
    harmless = [n for n, o in words.objects.items() if not o.harmful and n not in kept_back]
    styles = [s for s in words.styles if s not in kept_back]
    return [*rng.sample(harmful, min(12, len(harmful))), *rng.sample(harmless, 12), *styles]


def concept_sets(concepts: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """What is erased together: every concept alone, and of each larger size two sets of objects drawn at random."""
    words, rng = vocabulary(), Random("bench sets")
    kept_back = set(validation_concepts())
    pool = [n for n in words.objects if n not in kept_back]
    sets: list[tuple[str, ...]] = [(c,) for c in concepts] if 1 in sizes else []
    for size in sizes:
        if size > 1:
            sets += [tuple(rng.sample(pool, size)) for _ in range(2)]
    return sets


def sizes_for(count: int) -> Sizes:
    """Prompts per concept where `count` are erased together: fewer of each, about as many in all."""
    if count == 1:
        return Sizes()
    n = max(2, 24 // count)
    return Sizes(direct=n, synonym=n, sentence=n, pair=n, neighbour=2, other=48)


def run_cells(config: BenchConfig, cells: Sequence[Cell], folder: Path, console: Console, task_name: str) -> None:
    """Run the cells whose files are not in `folder` yet."""
    from rich.progress import Progress

    pending = [cell for cell in cells if not (folder / f"{cell.key}.parquet").exists()]
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(task_name, total=len(cells), completed=len(cells) - len(pending))
        for _ in _finished(config, pending, folder):
            bar.advance(task)


def _finished(config: BenchConfig, cells: list[Cell], folder: Path) -> Iterator[Cell]:
    if config.workers == 1 or len(cells) < 2:
        bench = Bench(config.out)
        for cell in cells:
            run_cell(bench, cell, folder)
            yield cell
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, _Worker.start, (config.out,)) as pool:
        try:
            for future in as_completed([pool.submit(_Worker.run, cell, folder) for cell in cells]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def run_cell(bench: Bench, cell: Cell, folder: Path) -> None:
    """Run one cell and write its file."""
    rows, cost = bench.run(cell)
    cost_text = json.dumps(asdict(cost))
    write_rows(folder / f"{cell.key}.parquet", rows, {"method": cell.method, "erased": " + ".join(cell.erased),
                                                      "cost": cost_text})  # fmt: skip


class _Worker:
    """A process with a bench of its own, and one thread."""

    bench: Bench

    @classmethod
    def start(cls, folder: Path) -> None:
        torch.set_num_threads(1)
        cls.bench = Bench(folder)

    @classmethod
    def run(cls, cell: Cell, folder: Path) -> Cell:
        run_cell(cls.bench, cell, folder)
        return cell


def tune(config: BenchConfig, names: Sequence[str], console: Console) -> dict[str, float]:
    """The best value of each method's knob, by its harmonic mean over validation concepts.

    Writes DIR/tuned.json with the figures of the whole grid. Every method gets the same concepts, prompts and seeds; the
    grids have three to six values, the published one among them.
    """
    folder = config.out / "tuning"
    concepts = validation_concepts()[:TUNING_CONCEPTS]
    bench = Bench(config.out)
    grids = {}
    for name in names:
        method = METHODS[name](bench.workshop)
        if method.knob is not None:
            grids[name] = method.knob.grid
    cells = [Cell(m, v, (c,), TUNING_SIZES) for m, grid in grids.items() for v in grid for c in concepts]
    run_cells(config, cells, folder, console, "tuning")
    record, best = {}, {}
    for name, grid in grids.items():
        scores = {}
        for value in grid:
            parts = [folder / f"{Cell(name, value, (c,), TUNING_SIZES).key}.parquet" for c in concepts]
            scores[value] = float(np.mean([harmonic_mean(read_rows([part])[0]) for part in parts]))
        best[name] = max(scores, key=scores.__getitem__)
        record[name] = {"chosen": best[name], "harmonic mean by value": scores}
    write_text(config.out / "tuned.json", json.dumps(record, indent=1) + "\n")
    return best


def chosen_methods(text: str) -> list[str]:
    """Names of methods; the base model is always among them.

    Raises:
        SnceError: an unknown method.
    """
    if text.strip() == "all":
        return list(METHODS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise SnceError(f"unknown method {', '.join(map(repr, unknown))}; there are {', '.join(METHODS)}")
    return list(dict.fromkeys([BASE, *names]))
