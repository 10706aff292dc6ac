"""How well a sparse autoencoder describes embeddings."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from snce import checkpoint as checkpoints
from snce.sae.batches import draw_positions
from snce.text.positions import BEGIN, KINDS

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings


MOST = 50_000
"""Prompts that metrics are taken on, of those held out and of those trained on each: of more, a random sample."""


class SAEMetrics(NamedTuple):
    """Quality of an SAE on held-out prompts, `MOST` of them at most."""

    fvu: float
    """Fraction of variance unexplained, over all positions but begin-of-text; words, end and padding weigh alike."""
    l0: float
    """Mean number of active latents: per prompt (prompt code) or per position (position code)."""
    dead: float
    """Share of the latents that never fire on a training prompt (at its words, its end, and one of its padding
    positions); of more than `MOST`, on a random sample of so many, in which rare latents may be missed."""


def kind_mean(values: Tensor, kinds: Tensor) -> Tensor:
    """Mean of values [n, positions] over each kind of position, averaged over the kinds that occur."""
    return torch.stack([values[kinds == kind].mean() for kind in KINDS if bool((kinds == kind).any())]).mean()


def fvu(sae: SparseAutoencoder, residual: Tensor, kinds: Tensor) -> Tensor:
    """Fraction of variance unexplained by what leaves `residual` [n, positions, d]."""
    return kind_mean(residual.square().sum(-1), kinds) / sae.scale**2


@torch.no_grad()
def measure(sae: SparseAutoencoder, data: Embeddings, test: Tensor, fit: Tensor, batch: int = 128) -> SAEMetrics:
    """Metrics on the prompts `test`; dead latents counted over the prompts `fit`.

    Of either, where there are more than `MOST`, so many are drawn at random, the same each time: a training on a
    hundred million prompts would otherwise end with days of measuring.

    Args:
        test, fit: rows of `data`, int64 [n]; all of `test` with content.
    """
    test, fit = _sample(test), _sample(fit)
    unexplained, l0, prompts = 0.0, 0.0, 0
    fired = torch.zeros(sae.config.latents, dtype=torch.bool)
    for part in test.split(batch):
        x, kinds = data.x[part].float(), data.kinds[part]
        z = sae.encode(x, kinds).activations
        unexplained += fvu(sae, x - sae.decode(z), kinds).item() * len(part)
        if sae.config.support == "prompt":
            l0 += (z > 0).any(1).sum().item()
        else:
            l0 += ((z > 0).sum(-1).sum(1) / (kinds != BEGIN).sum(1)).sum().item()
        prompts += len(part)
    for part in fit.split(batch):
        x, kinds = draw_positions(data, part, 1, checkpoints.generator(0, 0))
        fired |= (sae.encode(x, kinds).activations > 0).any(1).any(0)
    return SAEMetrics(unexplained / prompts, l0 / prompts, 1 - fired.float().mean().item())


def _sample(rows: Tensor) -> Tensor:
    if len(rows) <= MOST:
        return rows
    return rows[torch.tensor(Random(0).sample(range(len(rows)), MOST))]
