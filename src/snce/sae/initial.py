"""The weights that training begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from snce.errors import SnceError
from snce.sae.metrics import kind_mean
from snce.sae.model import top_mask
from snce.text.positions import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings

PROMPTS = 32
"""Prompts whose embeddings are held at a time: they may be memory-mapped, and in float32 take twice their room."""
BLOCK = 4096
"""Positions that are added up at a time. PyTorch adds up a column in steps of 16, of 16 of these and of 16 of those: so
the sums of blocks, added up, are to the bit what it makes of half a million positions at once (with a width that is a
multiple of 32)."""
POOL = 4096
"""Positions of each kind that latents are drawn from."""


@torch.no_grad()
def initialise(sae: SparseAutoencoder, data: Embeddings, rows: Tensor, rng: torch.Generator, fitted: bool) -> None:
    """b_dec = mean; scale = root mean square norm of what is left; latents point to embeddings drawn at random.

    A latent that starts where data lie is seldom dead. Many latents that point the same way would write too much: with
    `fitted`, the encoder is scaled so that together they write as much as is there.

    Args:
        rows: prompts of `data` to look at, int64 [n].

    Raises:
        SnceError: none of them has content, or their embeddings hold NaN or infinity.
    """
    kinds = data.kinds[rows]
    means = _means(data, rows, kinds)
    sae.b_dec.copy_(torch.stack(list(means.values())).mean(0))
    squares = []
    found: dict[int, list[Tensor]] = {kind: [] for kind in means}
    for x, its in _parts(data, rows, kinds):
        x -= sae.b_dec
        squares.append(x.square().sum(-1))
        for kind, there in found.items():
            lacking = POOL - sum(map(len, there))
            if lacking:  # an empty slice would keep hold of all of them
                there.append(x[its == kind][:lacking])
    sae.scale.copy_(kind_mean(torch.cat(squares), kinds).sqrt().clamp_min(1e-6))
    pool = torch.cat([x for there in found.values() for x in there])
    drawn = pool[torch.randint(len(pool), (sae.config.latents,), generator=rng)]
    sae.W_dec.copy_(torch.nn.functional.normalize(drawn + 1e-3 * sae.scale * sae.W_dec, dim=1))
    sae.W_enc.copy_(sae.W_dec)
    if fitted:
        x = pool[torch.randint(len(pool), (1024,), generator=rng)] / sae.scale
        pre = torch.relu(x @ sae.W_enc.T)
        written = (pre * top_mask(pre, sae.config.k)) @ sae.W_dec
        sae.W_enc.mul_((x * written).sum() / written.square().sum().clamp_min(1e-12))


def _parts(data: Embeddings, rows: Tensor, kinds: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Embeddings of a few prompts, float32 [n, positions, d], a copy, and their kinds [n, positions]."""
    for some, its in zip(rows.split(PROMPTS), kinds.split(PROMPTS), strict=True):
        yield data.x[some].float(), its


def _means(data: Embeddings, rows: Tensor, kinds: Tensor) -> dict[int, Tensor]:
    """Mean embedding, [d], of each kind of position that occurs."""
    count = {kind: int((kinds == kind).sum()) for kind in KINDS}
    nothing = torch.zeros(0, data.x.shape[-1])
    total = {kind: torch.zeros(data.x.shape[-1]) for kind in KINDS if count[kind]}
    waiting = dict.fromkeys(total, nothing)
    for x, its in _parts(data, rows, kinds):
        if not torch.isfinite(x).all():
            raise SnceError("the embeddings hold NaN or infinity")
        for kind in total:
            there = torch.cat([waiting[kind], x[its == kind]])
            for block in there[: len(there) // BLOCK * BLOCK].split(BLOCK):
                total[kind] += block.sum(0)
            waiting[kind] = there[len(there) // BLOCK * BLOCK :]
    if not total:
        raise SnceError("the prompts have no token but begin-of-text")
    return {kind: (total[kind] + waiting[kind].sum(0)) / count[kind] for kind in total}
