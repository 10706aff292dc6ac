"""Thresholds that reproduce the choice of the top k."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

_NEURONS = 1024  # at once: sorting takes some 30 bytes for each prompt and neuron

if TYPE_CHECKING:
    from torch import Tensor

    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings


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
    for i in range(0, a.shape[1], _NEURONS):
        some = slice(i, i + _NEURONS)
        sae.threshold[some] = _best_bars(a[:, some], truth[:, some])
    says = a > sae.threshold
    both = (says & truth).sum().item()
    return Agreement(2 * both / max(1, (says.sum() + truth.sum()).item()))


def _best_bars(a: Tensor, truth: Tensor) -> Tensor:
    """The bar of each neuron, [neurons], on activations `a` and firing `truth`, [prompts, neurons]."""
    order = a.argsort(0, descending=True)
    ranked = a.gather(0, order)
    following = torch.cat([ranked[1:], torch.zeros_like(ranked[:1])])  # below the lowest activation there is silence, 0
    hits = truth.gather(0, order).cumsum(0)
    count = torch.arange(1, len(a) + 1)[:, None]
    f1 = 2 * hits / (count + truth.sum(0))
    f1 = f1.masked_fill(ranked <= following, -1)  # no bar lies between equal activations
    best = f1.argmax(0, keepdim=True)
    middle = (ranked.gather(0, best) + following.gather(0, best))[0] / 2
    return torch.where(truth.any(0), middle, ranked[0] * 1.05 + 1e-6)
