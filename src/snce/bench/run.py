"""Running the precision suite: tune the methods on validation concepts, then judge them on others.

Every cell writes a file of its own when it is done, and a cell whose file is there is not run again: so a run can be
interrupted, go on, and be shared among machines (`shard`).
"""

from __future__ import annotations

import json
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch

from snce.bench.cells import Bench, Cell
from snce.bench.lineup import BASE, METHODS
from snce.bench.measures import harmonic_mean
from snce.bench.plots import plot_heat_map, plot_trade_off
from snce.bench.prompts import Sizes
from snce.bench.report import write_report
from snce.bench.rows import SEPARATOR, join_rows, read_rows, write_rows
from snce.bench.summary import markdown, summarise, write_summary
from snce.demo.grid import save_png
from snce.demo.table import validation_concepts
from snce.demo.workers import end_with_parent
from snce.emblem.concepts import load_concept
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from snce.bench.config import BenchConfig

TUNING_SIZES = Sizes(direct=6, synonym=0, sentence=6, pair=6, neighbour=6, other=12)
TUNING_CONCEPTS = 6
"""Validation objects on which every method's knob is tuned."""


def default_concepts() -> list[str]:
    """12 harmful stand-ins, 12 other objects, and the styles.

    The objects are none of the validation concepts. Two styles are; the summary leaves them out, the heat map has them.
    """
    words, kept_back = vocabulary(), set(validation_concepts())
    rng = Random("bench concepts")
    harmful = [n for n, o in words.objects.items() if o.harmful and n not in kept_back]
    harmless = [n for n, o in words.objects.items() if not o.harmful and n not in kept_back]
    return [*rng.sample(harmful, min(12, len(harmful))), *rng.sample(harmless, 12), *words.styles]


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


def run_cells(bench: Bench, cells: Sequence[Cell], folder: Path, workers: int, console: Console, title: str) -> None:
    """Run the cells whose files are not in `folder` yet."""
    from rich.progress import Progress

    pending = [cell for cell in cells if not (folder / f"{cell.key}.parquet").exists()]
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=len(cells), completed=len(cells) - len(pending))
        for _ in _finished(bench, pending, folder, workers):
            bar.advance(task)


def _finished(bench: Bench, cells: list[Cell], folder: Path, workers: int) -> Iterator[Cell]:
    if workers == 1 or len(cells) < 2:
        for cell in cells:
            run_cell(bench, cell, folder)
            yield cell
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _Worker.start, (bench.folder,)) as pool:
        try:
            for future in as_completed([pool.submit(_Worker.run, cell, folder) for cell in cells]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def run_cell(bench: Bench, cell: Cell, folder: Path) -> None:
    """Run one cell; write its strip of pictures, then its rows: the file by which the cell counts as done."""
    rows, cost, strip = bench.run(cell)
    save_png(strip, folder / f"{cell.key}.png")
    metadata = {"method": cell.method, "erased": SEPARATOR.join(cell.erased), "cost": json.dumps(asdict(cost))}
    write_rows(folder / f"{cell.key}.parquet", rows, metadata)


class _Worker:
    """A process with a bench of its own, and one thread."""

    bench: Bench

    @classmethod
    def start(cls, folder: Path) -> None:
        end_with_parent()
        torch.set_num_threads(1)
        cls.bench = Bench(folder)

    @classmethod
    def run(cls, cell: Cell, folder: Path) -> Cell:
        run_cell(cls.bench, cell, folder)
        return cell


def tune(bench: Bench, names: Sequence[str], workers: int, console: Console) -> dict[str, float]:
    """The best value of each method's knob, by its harmonic mean over validation concepts.

    Writes DIR/tuned.json with the figures of the whole grid. Every method gets the same concepts, prompts and seeds;
    the grids have three to six values, the published one among them.
    """
    folder = bench.folder / "tuning"
    concepts = validation_concepts()[:TUNING_CONCEPTS]
    grids = {}
    for name in names:
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
            scores[value] = float(np.mean([harmonic_mean(read_rows([part])[0]) for part in parts]))
        best[name] = max(scores, key=scores.__getitem__)
        record[name] = {"chosen": best[name], "harmonic mean by value": scores}
    write_text(bench.folder / "tuned.json", json.dumps(record, indent=1) + "\n")
    return best


def run_bench(config: BenchConfig, console: Console) -> None:
    """Tune, run, and sum up what all shards have left in the folder so far.

    Raises:
        SnceError: an unknown method or concept, a malformed list, or a folder that cannot be written.
    """
    methods = chosen_methods(config.methods)
    cells = shard(all_cells(config, methods), config.shard)
    bench = Bench(config.out, progress=True)
    for name in methods:
        METHODS[name](bench.workshop)  # trains the SAEs that they share, before processes would each do it
    best = tune(bench, methods, config.workers, console) if config.tune else {}
    cells = [replace(cell, setting=best.get(cell.method)) for cell in cells]
    parts = config.out / "parts"
    run_cells(bench, cells, parts, config.workers, console, "precision suite")
    found = sorted(parts.glob("*.parquet"))
    join_rows(found, config.out / "results.parquet")
    summary = summarise(found)
    write_summary(config.out, summary)
    columns, _ = read_rows(found)
    plots = {
        "trade-off.png": ("Erasure against retention.", plot_trade_off),
        "heat-map.png": ("Harmonic mean by method and erased concepts.", plot_heat_map),
    }
    for name, (_, plot) in plots.items():
        plot(columns, config.out / name)
    captions = [(caption, config.out / name) for name, (caption, _) in plots.items()]
    write_report(config.out / "report.html", summary, captions, sorted(parts.glob("*.png")))
    console.print(markdown(summary), markup=False)


def all_cells(config: BenchConfig, methods: Sequence[str]) -> list[Cell]:
    """Every method on every set of concepts.

    Raises:
        SnceError: an unknown concept, or sizes that are no numbers.
    """
    try:
        sizes = [int(n) for n in config.sets.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise SnceError(f"--sets {config.sets!r} must be whole numbers with commas between them, such as 1,5,10")
    if config.concepts.strip() == "default":
        concepts = default_concepts()
    else:
        concepts = [name.strip() for name in config.concepts.split(",") if name.strip()]
        for name in concepts:
            load_concept(name)
    return [Cell(m, None, erased, sizes_for(len(erased))) for erased in concept_sets(concepts, sizes) for m in methods]


def shard(cells: list[Cell], text: str) -> list[Cell]:
    """Every n-th cell of "i/n".

    Raises:
        SnceError: a text that is not of this form.
    """
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text.strip())
    if not match or int(match[1]) > int(match[2]):
        raise SnceError(f"--shard {text!r} must be like 3/8: the third of eight")
    return cells[int(match[1]) - 1 :: int(match[2])]


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
