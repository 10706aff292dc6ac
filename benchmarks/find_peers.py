"""How the peers choose the latents of a concept, on the tensors of benchmarks/find.py.

Both code every position by its own top k and keep the code written out in full, as their authors do; what they choose
from is here the text encoder's embeddings (SAeUron's are maps inside the UNet, which have as many rows of their own).
Their rules are those of snce.bench.methods, a test says; here without what these do for pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings

BATCH = 16
"""Prompts that are coded at once; more took longer."""


def codes(sae: SparseAutoencoder, data: Embeddings, prompts: Sequence[int]) -> Iterator[Tensor]:
    """Activations [n, positions, m] of a batch of prompts after another, begin-of-text left out."""
    from snce.text.positions import BEGIN

    for i in range(0, len(prompts), BATCH):
        at = torch.as_tensor(prompts[i : i + BATCH])
        x = (data.x[at].float() - sae.b_dec) / sae.scale
        pre = torch.relu(torch.nn.functional.linear(x, sae.W_enc, sae.b_enc))
        best, latents = pre.topk(sae.config.k)
        z = torch.zeros_like(pre).scatter_(-1, latents, best)
        yield z * (data.kinds[at] != BEGIN)[..., None]


def saeuron_scores(sae: SparseAutoencoder, data: Embeddings, target: Sequence[int], neutral: Sequence[int]) -> Tensor:
    """SAeUron's score of each latent, [m]: its share of the mean activations with the concept, less that without."""
    share = []
    for prompts in (target, neutral):
        mean = torch.zeros(sae.config.latents)
        for z in codes(sae, data, prompts):
            mean += z.sum((0, 1))
        share.append(mean / mean.sum())
    return share[0] - share[1]


def itd_features(
    sae: SparseAutoencoder, data: Embeddings, target: Sequence[int], neutral: Sequence[int], top: int = 128
) -> Tensor:
    """ItD's features, bool [m]: the `top` latents of any target prompt that are among those of no neutral one."""
    found = []
    for prompts in (target, neutral):
        any_of = torch.zeros(sae.config.latents, dtype=torch.bool)
        for z in codes(sae, data, prompts):
            best, latents = z.amax(1).topk(min(top, sae.config.latents))
            any_of[latents[best > 0]] = True
        found.append(any_of)
    return found[0] & ~found[1]
