"""Operating points: where a neuron counts as firing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class OperatingPoint(NamedTuple):
    """A threshold on a neuron's highest activation in a prompt, and what it does on held-out prompts."""

    threshold: float
    recall: float
    """Share of the target prompts in which the neuron fires."""
    false_fires: float
    """Share of the neutral prompts in which it fires: each loses the promise of an identical picture."""


MARGIN = 0.2
"""Where in the gap between neutral and target activations a threshold lies: 0 at the neutral, 1 at the target ones.
Nearer to the neutral ones, because prompts of a new kind activate a neuron less than those that it was found on, and a
concept that is missed costs more than a picture that changes."""


def operating_point(target: Tensor, neutral: Tensor) -> OperatingPoint:
    """The threshold that tells target from neutral activations best: the largest recall less false fires.

    Of several that do equally well, one in the widest gap between activations is taken, `MARGIN` of the way up; never
    below zero.

    Args:
        target: activations [prompts] on prompts that hold the concept.
        neutral: activations [prompts] on prompts that do not.
    """
    values = torch.cat([target, neutral, torch.zeros(1)]).double().clamp_min(0).unique()
    values = torch.cat([values, values[-1:] * 1.05 + 1e-6])
    bars = values[:-1] + MARGIN * (values[1:] - values[:-1])
    recall, false_fires = _share_above(target, bars), _share_above(neutral, bars)
    gain = recall - false_fires
    gap = torch.where(gain > gain.max() - 1e-9, values[1:] - values[:-1], -1.0)
    best = gap.argmax()
    return OperatingPoint(float(bars[best]), float(recall[best]), float(false_fires[best]))


def _share_above(values: Tensor, bars: Tensor) -> Tensor:
    """Share of the values above each bar. Sorted and searched: a comparison of each with each takes its square."""
    below = torch.searchsorted(values.double().sort().values, bars, right=True)
    return (len(values) - below).double() / len(values)
