"""Judging many erasers on many concepts without drawing a picture twice.

A prompt whose embedding the eraser leaves as it is gives the same picture bit for bit (the tests assert it), so only
prompts on which a neuron fires are drawn again, and the pictures before are drawn once per concept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.demo.measure import Outcome, Pictures, outcome
from snce.demo.pictures import draw
from snce.storage import read_tensors, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from snce.demo.laboratory import Laboratory
    from snce.demo.prompts import TestPrompt, TestSet
    from snce.erase.eraser import ConceptEraser

_KIND = "snce-pictures-1"


class Bench:
    """Draws and judges; keeps the pictures before in `folder`."""

    def __init__(self, lab: Laboratory, folder: Path) -> None:
        self.lab = lab
        self.folder = folder

    def before(self, tests: TestSet) -> Pictures:
        """Pictures without an eraser, from the folder where they are there already."""
        path = self.folder / f"{tests.concept.replace(' ', '-')}.safetensors"
        stamp = f"{self.lab.fingerprint} {[(p.text, p.seed) for p in (*tests.direct, *tests.pairs, *tests.retain)]}"
        if path.exists():
            tensors, metadata = read_tensors(path, _KIND)
            if metadata["stamp"] == stamp:
                return Pictures(**tensors)
        pictures = Pictures(*_drawn_together(self.lab, [tests.direct, tests.pairs, tests.retain]))
        write_tensors(path, vars(pictures), {"format": _KIND, "stamp": stamp})
        return pictures

    def after(self, tests: TestSet, before: Pictures, eraser: ConceptEraser) -> Pictures:
        """Pictures with the eraser: those that it leaves alone are copied, the others drawn."""
        groups = [tests.direct, tests.pairs, tests.retain]
        marks = [self._touched(prompts, eraser) for prompts in groups]
        chosen = [
            [p for p, m in zip(g, mark.tolist(), strict=True) if m] for g, mark in zip(groups, marks, strict=True)
        ]
        with eraser.attach(self.lab.pipe):
            drawn = _drawn_together(self.lab, chosen)
        results = []
        for old, mark, new in zip((before.direct, before.pairs, before.retain), marks, drawn, strict=True):
            pictures = old.clone()
            pictures[mark] = new
            results.append(pictures)
        return Pictures(*results)

    def judge(self, tests: TestSet, eraser: ConceptEraser) -> Outcome:
        before = self.before(tests)
        return outcome(tests, before, self.after(tests, before, eraser), self.lab.judge)

    def _touched(self, prompts: tuple[TestPrompt, ...], eraser: ConceptEraser) -> Tensor:
        if not prompts:
            return torch.zeros(0, dtype=torch.bool)
        x = self.lab.tower.encode([p.text for p in prompts])
        return (eraser.edit(x) != x).flatten(1).any(1)


def _drawn_together(lab: Laboratory, groups: list) -> list[Tensor]:
    """Pictures of several groups of prompts, drawn in common batches."""
    pictures = draw(lab.pipe, [p for group in groups for p in group], lab.steps)
    return list(pictures.split([len(group) for group in groups]))
