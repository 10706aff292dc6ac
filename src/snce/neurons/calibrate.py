"""Operating points: where a neuron counts as firing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings


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
    recall = (target.double() > bars[:, None]).double().mean(1)
    false_fires = (neutral.double() > bars[:, None]).double().mean(1)
    gain = recall - false_fires
    gap = torch.where(gain > gain.max() - 1e-9, values[1:] - values[:-1], -1.0)
    best = gap.argmax()
    return OperatingPoint(float(bars[best]), float(recall[best]), float(false_fires[best]))


class Agreement(NamedTuple):
    """How well thresholds reproduce the choice of the top k."""

    f1: float
    """Over all neurons and prompts together."""


@torch.no_grad()
def calibrate_thresholds(sae: SparseAutoencoder, data: Embeddings) -> Agreement:
    """Set `sae.threshold`: per neuron, the bar on its highest activation in a prompt that agrees best (F1) with firing.

    Neurons that never fire on `data` get a bar above their highest activation.
    """
    pre, fired = [], []
    for i in range(0, len(data), 128):
        code = sae.encode(data.x[i : i + 128].float(), data.kinds[i : i + 128])
        pre.append(code.pre.amax(1))
        fired.append((code.activations > 0).any(1))
    a, truth = torch.cat(pre), torch.cat(fired)
    order = a.argsort(0, descending=True)
    hits = truth.gather(0, order).cumsum(0)
    ranked = a.gather(0, order)
    count = torch.arange(1, len(a) + 1)[:, None]
    f1 = 2 * hits / (count + truth.sum(0))
    best = f1.argmax(0, keepdim=True)
    here = ranked.gather(0, best)
    # below the lowest activation there is silence, 0
    following = torch.cat([ranked, torch.zeros_like(ranked[:1])]).gather(0, best + 1)
    sae.threshold.copy_(torch.where(truth.any(0), ((here + following) / 2)[0], ranked[0] * 1.05 + 1e-6))
    says = a > sae.threshold
    both = (says & truth).sum().item()
    return Agreement(2 * both / max(1, (says.sum() + truth.sum()).item()))
