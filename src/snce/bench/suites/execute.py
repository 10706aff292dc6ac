"""Doing the parts of a run in this process, or in workers, which write into the same folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snce.bench.lineup import BASE
from snce.bench.suites.prepare import prepare
from snce.bench.suites.report import SETTINGS
from snce.engines.spread import spread
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress, TaskID

    from snce.bench.suites.config import SuiteConfig
    from snce.bench.suites.parts import Part
    from snce.bench.suites.work import Work
    from snce.engines.spread import Crew

    Tools = tuple[Any, Any]
    """`load` and `extractor` of `snce.bench.suites.run.run_suite`."""


def run_here(work: Work, pending: dict[str, list[Part]], bar: Progress, task: TaskID) -> None:
    """Do the parts of each method, one after the other."""
    work.advance = lambda n: bar.advance(task, n)
    for name, parts in pending.items():
        bar.update(task, description=f"pictures: {name}")
        if parts:
            bar.stop()  # a method that trains has a bar of its own
            work.fit(name)
            bar.start()
        for part in parts:
            work.do(part)


def run_elsewhere(
    work: Work, pending: dict[str, list[Part]], crew: Crew, advance: Callable[[int], object], tools: Tools
) -> None:
    """Have workers do the parts: the base model's first, which the others are compared with.

    Method by method: a worker fits each method once. Its pipeline is its own; the one in `work` is let go.

    Raises:
        SnceError: what the work raises; a folder or inputs that are not the same for workers; workers that were lost.
    """
    work.let_go()
    others = [part for name, parts in pending.items() if name != BASE for part in parts]
    for parts in (pending[BASE], others):
        for part in _done(work, parts, crew, tools):
            advance(part.size)


def _done(work: Work, parts: Sequence[Part], crew: Crew, tools: Tools) -> Iterator[Part]:
    if parts:
        items = ((part, work.inputs[part.method]) for part in parts)
        place = (work.config, Path.cwd(), *tools)
        yield from spread(crew.engine, crew.workers, _Worker.start, place, _Worker.do, items, gpu=True)


class _Worker:
    """A process with a pipeline, judges and methods of its own: to the folder it is what a shard is."""

    work: Work

    @classmethod
    def start(cls, config: SuiteConfig, home: Path, load: Any, extractor: Any) -> None:
        with suppress(OSError):  # names are recorded as they were given, so relative ones must mean the same here
            os.chdir(home)
        if not (config.out / SETTINGS).exists():
            raise SnceError(f"a worker finds nothing in {config.out.absolute()}: --out must be a folder that all see")
        cls.work, _ = prepare(config, load, extractor)

    @classmethod
    def do(cls, part: Part, inputs: str) -> Part:
        if cls.work.inputs[part.method] != inputs:
            raise SnceError(f"a worker has another concept, SAE or eraser for {part.method!r} than this machine")
        cls.work.do(part)
        return part
