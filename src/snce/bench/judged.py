"""What the judge sees in a picture of the benchmark: one row per picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from snce.demo.measure import PRESENT
from snce.emblem.vocabulary import vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from snce.bench.prompts import BenchPrompt
    from snce.emblem.judge import Judge, Verdict


@dataclass(frozen=True)
class Seen:
    """What pictures show, one entry per picture of the prompts that asked for them."""

    target: Tensor
    """The concept that the prompt is about is found, bool [n]; False where it is about none."""
    kept: Tensor
    """All that the prompt asks for besides is found, bool [n]: its objects but the concept."""
    style: Tensor
    """Class of the style that the judge sees, int64 [n]."""
    features: Tensor
    """The judge's features, [n, width]: the space of the Fréchet distance."""


def look(judge: Judge, pictures: Tensor, prompts: Sequence[BenchPrompt]) -> Seen:
    """pictures: uint8 [n, 3, 64, 64], in the order of `prompts`."""
    features = judge.features(pictures.float() / 255)
    verdict = judge.of_features(features)
    return Seen(
        target=_target_found(verdict, prompts),
        kept=_rest_found(verdict, prompts),
        style=verdict.styles.argmax(1),
        features=features,
    )


def _target_found(verdict: Verdict, prompts: Sequence[BenchPrompt]) -> Tensor:
    words = vocabulary()
    styles = verdict.styles.argmax(1)
    found = []
    for i, p in enumerate(prompts):
        if p.concept in words.styles:
            found.append(int(styles[i]) == words.styles.index(p.concept))
        else:
            found.append(bool(p.concept) and float(verdict.objects[i, words.index(p.concept)]) >= PRESENT)
    return torch.tensor(found)


def _rest_found(verdict: Verdict, prompts: Sequence[BenchPrompt]) -> Tensor:
    words = vocabulary()
    present = verdict.objects >= PRESENT
    return torch.tensor(
        [all(bool(present[i, words.index(o)]) for o in p.objects if o != p.concept) for i, p in enumerate(prompts)]
    )
