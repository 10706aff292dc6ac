"""Running a suite: draw the pictures of every method, judge them, sum up.

A part (a method on a chunk of the prompts) writes its pictures and then its rows; one whose rows are there is not run
again: so a run can be interrupted, go on, and be shared among processes and machines. Parts of other settings are never
mixed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snce.bench.suites.execute import run_elsewhere, run_here
from snce.bench.suites.figures import Figures
from snce.bench.suites.parts import Part, chunks
from snce.bench.suites.prepare import prepare
from snce.bench.suites.report import sum_up
from snce.engines.shards import shard
from snce.engines.spread import Crew
from snce.pipelines import load_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from torch import nn

    from snce.bench.suites.config import SuiteConfig
    from snce.bench.suites.work import Work


def run_suite(
    config: SuiteConfig,
    console: Console,
    load: Callable[[str], Any] = load_pipeline,
    extractor: nn.Module | None = None,
) -> None:
    """Run this machine's share of a suite, and sum up what all shards have left in the folder so far.

    Args:
        load: from the model's name to its pipeline. Workers are sent it by pickle, and `extractor` too.
        extractor: stands in for Inception: see `snce.bench.suites.scores.Inception`.

    Raises:
        SnceError: bad options, prompts, concepts or models; a library that is not installed; results of another run in
            the folder; workers that were lost.
    """
    config.check()
    shard([], config.shard)
    crew = Crew(config.workers, config.engine)
    work, notes = prepare(config, load, extractor, console.is_terminal)
    for note in notes:
        console.print(note, markup=False)
    _run(work, console, crew, load, extractor)
    figures = Figures(config.chosen_measures(), work.panel.erased, work.prompts.labels, config.threshold)
    table = sum_up(config.out, work.settings, work.digest, work.inputs, figures, work.panel.inception, config.reference)
    console.print(table, markup=False, soft_wrap=True)


def _run(work: Work, console: Console, crew: Crew, load: Callable[[str], Any], extractor: nn.Module | None) -> None:
    """All parts of this machine's share that are not done yet."""
    from rich.progress import Progress

    mine = shard(chunks(len(work.prompts.prompts), work.config.chunk), work.config.shard)
    pending: dict[str, list[Part]] = {}
    for name in work.methods:
        parts = [Part(name, *chunk) for chunk in mine]
        pending[name] = [part for part in parts if not work.is_done(part)]
    with Progress(console=console, transient=True) as bar:
        total = len(work.methods) * sum(stop - start for start, stop in mine)
        left = sum(part.size for parts in pending.values() for part in parts)
        task = bar.add_task("pictures", total=total, completed=total - left)
        if crew.is_this_process:
            run_here(work, pending, bar, task)
        else:
            run_elsewhere(work, pending, crew, lambda n: bar.advance(task, n), (load, extractor))
