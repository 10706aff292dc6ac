"""Judging erasers on many concepts without drawing a picture twice.

A prompt whose embedding the eraser leaves as it is gives the same picture bit for bit (the tests assert it), so only
prompts on which a neuron fires are drawn again, and the pictures before are drawn once per concept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.demo.measure import Outcome, Pictures, outcome
from snce.demo.pictures import draw
from snce.storage import kept_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from snce.demo.laboratory import Laboratory
    from snce.demo.prompts import TestPrompt, TestSet
    from snce.erase.eraser import ConceptEraser

_KIND = "snce-pictures-1"


def pictures_before(lab: Laboratory, tests: TestSet, folder: Path) -> Pictures:
    """Pictures without an eraser, from `folder` where they are there already."""
    path = folder / f"{tests.concept.replace(' ', '-')}.safetensors"
    stamp = f"{lab.fingerprint} {[(p.text, p.seed) for p in (*tests.direct, *tests.pairs, *tests.retain)]}"
    groups = [tests.direct, tests.pairs, tests.retain]
    return Pictures(**kept_tensors(path, _KIND, stamp, lambda: vars(Pictures(*_draw_groups(lab, groups)))))


def pictures_after(lab: Laboratory, tests: TestSet, before: Pictures, eraser: ConceptEraser) -> Pictures:
    """Pictures with the eraser: those that it leaves alone are copied, the others drawn."""
    groups = [tests.direct, tests.pairs, tests.retain]
    marks = [_touched(lab, prompts, eraser) for prompts in groups]
    chosen = [[group[i] for i in mark.nonzero()[:, 0].tolist()] for group, mark in zip(groups, marks, strict=True)]
    with eraser.attach(lab.pipe):
        drawn = _draw_groups(lab, chosen)
    after = []
    for old, mark, new in zip((before.direct, before.pairs, before.retain), marks, drawn, strict=True):
        pictures = old.clone()
        pictures[mark] = new
        after.append(pictures)
    return Pictures(*after)


def judge_eraser(lab: Laboratory, tests: TestSet, eraser: ConceptEraser, folder: Path) -> Outcome:
    """What the eraser does on the test prompts."""
    before = pictures_before(lab, tests, folder)
    return outcome(tests, before, pictures_after(lab, tests, before, eraser), lab.judge)


def _touched(lab: Laboratory, prompts: tuple[TestPrompt, ...], eraser: ConceptEraser) -> Tensor:
    """Whether the eraser changes each prompt's embedding, bool [n]."""
    if not prompts:
        return torch.zeros(0, dtype=torch.bool)
    x = lab.tower.encode([p.text for p in prompts])
    return (eraser.edit(x) != x).flatten(1).any(1)


def _draw_groups(lab: Laboratory, groups: list) -> list[Tensor]:
    """Pictures of several groups of prompts, drawn in common batches."""
    pictures = draw(lab.pipe, [p for group in groups for p in group])
    return list(pictures.split([len(group) for group in groups]))
