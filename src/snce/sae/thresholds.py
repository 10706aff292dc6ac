"""Thresholds that reproduce the choice of the top k."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
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
