"""Doing parts: drawing the pictures of a method on a chunk of the prompts, and judging them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from snce.bench.lineup import BASE, setting_of
from snce.bench.rows import SEPARATOR, Cost
from snce.bench.suites.draw import Sampling, draw
from snce.bench.suites.lineup import ENTRIES, fitting, inputs_of
from snce.bench.suites.parts import Header, Part, rows_of, verdicts_of, write_part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from snce.bench.methods.base import Erasure, Method
    from snce.bench.suites.config import SuiteConfig
    from snce.bench.suites.judges import Panel
    from snce.bench.suites.prompts import PromptSet, SuitePrompt
    from snce.text.prompts import Concept


@dataclass
class Work:
    """All that parts are made with, in one process. `snce.bench.suites.prepare.prepare` makes it from the options."""

    config: SuiteConfig
    pipe: Any
    prompts: PromptSet
    concepts: tuple[Concept, ...]
    methods: dict[str, Method]
    panel: Panel
    sampling: Sampling
    settings: dict[str, Any]
    """All that decides the figures, for the record."""
    digest: str
    """Hash of the settings."""
    advance: Callable[[int], object] = field(default=lambda _: None)
    """Is told how many pictures were drawn."""
    inputs: dict[str, str] = field(init=False)
    """Of every method, a hash of what it is made from: see `inputs_of`."""
    _fitted: tuple[str, Erasure, float] | None = None
    """Of the last method alone: parts come method by method, and an erasure may be as large as a UNet."""

    @property
    def folder(self) -> Path:
        return self.config.out

    def __post_init__(self) -> None:
        self.inputs = {
            name: inputs_of(name, method, self.config, self.concepts) for name, method in self.methods.items()
        }

    def is_done(self, part: Part) -> bool:
        """See `Part.is_done`."""
        return part.is_done(self.folder, self.digest, self.inputs[part.method])

    def do(self, part: Part) -> None:
        """Draw, judge and write a part. The base model's part on the same prompts must be there already."""
        if part.method == BASE:
            self._do_base(part)
            return
        self.fit(part.method)
        assert self._fitted is not None
        _, erasure, prepared = self._fitted
        prompts, method = self._prompts(part), self.methods[part.method]
        base = Part(BASE, part.start, part.stop)
        seen_before = verdicts_of(base.file(self.folder))
        before = base.load_pictures(self.folder) or draw(self.pipe, prompts, self.sampling)
        with erasure.attached(self.pipe):
            after, seconds = self._drawn(prompts)
        part.save_pictures(self.folder, after)
        seen_after = self.panel.look(after, prompts)
        cost = Cost(prepared, erasure.nbytes, seconds)
        self._write(part, setting_of(method), (before, after), (seen_before, seen_after), cost, repr(method))

    def fit(self, method: str) -> None:
        """Fit a method, unless it is the last that was: `do` then has it. Nothing is fitted for the base model."""
        if method == BASE or (self._fitted and self._fitted[0] == method):
            return
        self._fitted = None  # two need not be in memory at once
        start = time.perf_counter()
        with fitting(self.pipe, ENTRIES[method]):
            erasure = self.methods[method].prepare(self.pipe, self.concepts)
        self._fitted = method, erasure, time.perf_counter() - start

    def let_go(self) -> None:
        """Free the model and the methods with their SAEs, where others do the parts. What sums up stays."""
        self.pipe, self.methods, self._fitted = None, {}, None
        torch.cuda.empty_cache()

    def _do_base(self, part: Part) -> None:
        prompts = self._prompts(part)
        images, seconds = self._drawn(prompts)
        part.save_pictures(self.folder, images)
        seen = self.panel.look(images, prompts)
        self._write(part, float("nan"), (images, images), (seen, seen), Cost(0.0, 0, seconds))

    def _prompts(self, part: Part) -> Sequence[SuitePrompt]:
        return self.prompts.prompts[part.start : part.stop]

    def _drawn(self, prompts: Sequence[SuitePrompt]) -> tuple[list[Image], float]:
        """Pictures, and seconds per picture."""
        start = time.perf_counter()
        images = draw(self.pipe, prompts, self.sampling, self.advance)
        return images, (time.perf_counter() - start) / len(prompts)

    def _write(self, part: Part, setting: float, pictures: Any, verdicts: Any, cost: Cost, method: str = "") -> None:
        config, erased = self.config, SEPARATOR.join(self.panel.erased)
        header = Header(config.suite, config.model, part.method, setting, erased)
        write_part(
            part, self.folder, rows_of(header, self._prompts(part), pictures, verdicts), cost,
            erased=erased, method_settings=method, settings=self.digest,
            inputs=self.inputs[part.method], judges=json.dumps(self.panel.describe()),
        )  # fmt: skip
