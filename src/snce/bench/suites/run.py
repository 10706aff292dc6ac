"""Running a suite: draw the pictures of every method, judge them, sum up.

A part (a method on a chunk of the prompts) writes its pictures and then its rows; one whose rows are there is not run
again: so a run can be interrupted, go on, and be shared among machines. Parts of other settings are never mixed in.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from snce.bench.lineup import BASE, setting_of
from snce.bench.rows import SEPARATOR, Cost
from snce.bench.shards import shard
from snce.bench.suites.concepts import what_is_erased
from snce.bench.suites.draw import Sampling, draw
from snce.bench.suites.figures import Figures
from snce.bench.suites.judges import Panel
from snce.bench.suites.lineup import ENTRIES, Studio, chosen_methods, fitting, inputs_of
from snce.bench.suites.parts import Header, Part, chunks, rows_of, verdicts_of, write_part
from snce.bench.suites.prompts import SuitePrompt, load_prompts
from snce.bench.suites.report import check_settings, settings_of, sum_up
from snce.pipelines import load_pipeline
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from PIL.Image import Image
    from rich.console import Console
    from torch import nn

    from snce.bench.methods.base import Erasure, Method
    from snce.bench.suites.config import SuiteConfig
    from snce.text.prompts import Concept


def run_suite(
    config: SuiteConfig,
    console: Console,
    load: Callable[[str], Any] = load_pipeline,
    extractor: nn.Module | None = None,
) -> None:
    """Run this machine's share of a suite, and sum up what all shards have left in the folder so far.

    Args:
        load: from the model's name to its pipeline.
        extractor: stands in for Inception: see `snce.bench.suites.scores.Inception`.

    Raises:
        SnceError: bad options, prompts, concepts or models; a library that is not installed; results of another run in
            the folder.
    """
    config.check()
    shard([], config.shard)
    prompts = load_prompts(config.suite, config.prompts, config.limit, config.seeds, config.category)
    erased, concepts, eraser = what_is_erased(config, prompts.labels)
    prompts = prompts.about(config.suite, erased)
    names, notes = chosen_methods(config, concepts)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    panel = Panel(config, prompts.labels, erased, device, extractor)
    pipe = load(config.model)
    tower = TextTower.from_pipeline(pipe)
    pipe.safety_checker = None  # it blackens pictures: the judges would judge the checker
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    methods = Studio(pipe, config, eraser, console.is_terminal).made(names)
    sampling = Sampling.of(pipe, config)
    settings = settings_of(config, prompts, erased, asdict(sampling), panel.describe(), tower.fingerprint)
    digest = check_settings(config.out, settings)
    work = Work(config, pipe, prompts.prompts, concepts, methods, panel, sampling, digest)
    for note in notes:
        console.print(note, markup=False)
    work.run(console)
    figures = Figures(config.chosen_measures(), erased, prompts.labels, config.threshold)
    table = sum_up(config.out, settings, digest, figures, panel.inception, config.reference)
    console.print(table, markup=False, soft_wrap=True)


@dataclass
class Work:
    """A run in progress."""

    config: SuiteConfig
    pipe: Any
    prompts: Sequence[SuitePrompt]
    concepts: tuple[Concept, ...]
    methods: dict[str, Method]
    panel: Panel
    sampling: Sampling
    settings: str
    """Hash of all that decides the figures."""
    _advance: Callable[[int], object] = field(default=lambda _: None)
    _inputs: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.config.out

    def run(self, console: Console) -> None:
        """All parts of this machine's share that are not done yet."""
        from rich.progress import Progress

        mine = shard(chunks(len(self.prompts), self.config.chunk), self.config.shard)
        pending: dict[str, list[Part]] = {}
        for name in self.methods:
            self._inputs[name] = inputs = inputs_of(name, self.config, self.concepts)
            parts = [Part(name, *chunk) for chunk in mine]
            pending[name] = [part for part in parts if not part.is_done(self.folder, self.settings, inputs)]
        with Progress(console=console, transient=True) as bar:
            total = len(self.methods) * sum(stop - start for start, stop in mine)
            left = sum(part.stop - part.start for parts in pending.values() for part in parts)
            task = bar.add_task("pictures", total=total, completed=total - left)
            for name, parts in pending.items():
                bar.update(task, description=f"pictures: {name}")
                self._advance = lambda n: bar.advance(task, n)
                if parts and name == BASE:
                    self._run_base(parts)
                elif parts:
                    bar.stop()  # a method that trains has a bar of its own
                    fitted = self._fitted(name)
                    bar.start()
                    self._run_method(name, parts, fitted)

    def _run_base(self, parts: Sequence[Part]) -> None:
        for part in parts:
            prompts = self.prompts[part.start : part.stop]
            images, seconds = self._drawn(prompts)
            part.save_pictures(self.folder, images)
            seen = self.panel.look(images, prompts)
            self._write(part, float("nan"), (images, images), (seen, seen), Cost(0.0, 0, seconds))

    def _fitted(self, name: str) -> tuple[Erasure, float]:
        """A method's erasure, and the seconds that it took."""
        start = time.perf_counter()
        with fitting(self.pipe, ENTRIES[name]):
            erasure = self.methods[name].prepare(self.pipe, self.concepts)
        return erasure, time.perf_counter() - start

    def _run_method(self, name: str, parts: Sequence[Part], fitted: tuple[Erasure, float]) -> None:
        pipe, method, (erasure, prepared) = self.pipe, self.methods[name], fitted
        for part in parts:
            prompts = self.prompts[part.start : part.stop]
            base = Part(BASE, part.start, part.stop)
            seen_before = verdicts_of(base.file(self.folder))
            before = base.load_pictures(self.folder) or draw(pipe, prompts, self.sampling)
            with erasure.attached(pipe):
                after, seconds = self._drawn(prompts)
            part.save_pictures(self.folder, after)
            seen_after = self.panel.look(after, prompts)
            cost = Cost(prepared, erasure.nbytes, seconds)
            self._write(part, setting_of(method), (before, after), (seen_before, seen_after), cost, repr(method))

    def _drawn(self, prompts: Sequence[SuitePrompt]) -> tuple[list[Image], float]:
        """Pictures, and seconds per picture."""
        start = time.perf_counter()
        images = draw(self.pipe, prompts, self.sampling, self._advance)
        return images, (time.perf_counter() - start) / len(prompts)

    def _write(self, part: Part, setting: float, pictures: Any, verdicts: Any, cost: Cost, method: str = "") -> None:
        config, erased = self.config, SEPARATOR.join(self.panel.erased)
        header = Header(config.suite, config.model, part.method, setting, erased)
        rows = rows_of(header, self.prompts[part.start : part.stop], pictures, verdicts)
        write_part(
            part, self.folder, rows, cost,
            erased=erased, method_settings=method, settings=self.settings,
            inputs=self._inputs[part.method], judges=json.dumps(self.panel.describe()),
        )  # fmt: skip
