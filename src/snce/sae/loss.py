"""The loss of training, for automatic differentiation: prompt codes, BatchTopK, nested sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.sae.metrics import fvu
from snce.sae.model import top_mask

if TYPE_CHECKING:
    from snce.sae.config import TrainConfig
    from snce.sae.model import SparseAutoencoder


def reconstruction_loss(
    sae: SparseAutoencoder, x: Tensor, kinds: Tensor, silence: Tensor, train: TrainConfig
) -> Tensor:
    """Fraction of variance unexplained, plus the AuxK term."""
    # A prompt's k latents serve all its positions: gathering their rows is far less than the dense product. A position
    # code would gather k rows for every position (see snce.sae.gradients), BatchTopK has rows of different length, and
    # the latents of a nested reconstruction are no fixed number: they go the dense way.
    dense = sae.config.support == "position" or sae.config.activation == "batchtopk" or bool(train.nested)
    with torch.set_grad_enabled(dense):
        pre = sae.pre(x, kinds)
    with torch.no_grad():
        strength = sae.strength(pre, kinds)
    smaller = []
    if dense:
        mask = sae.choose(pre, kinds)
        written, fired = _written_densely(sae, pre, mask)
        for n in train.nested:
            smaller.append(_written_densely(sae, pre, mask & (torch.arange(mask.shape[-1], device=x.device) < n))[0])
    else:
        written, fired = _written_sparsely(sae, x, kinds, strength, sae.config.k)
    silence += 1
    silence[fired] = 0
    residual = x - sae.b_dec - written
    loss = torch.stack([fvu(sae, r, kinds) for r in (residual, *(x - sae.b_dec - part for part in smaller))]).mean()
    dead = silence > train.dead_after
    k_aux = min(train.aux_k, int(dead.sum()))
    if k_aux:
        strength = strength * dead
        if dense:
            written, _ = _written_densely(sae, pre, top_mask(strength, k_aux))
        else:
            written, _ = _written_sparsely(sae, x, kinds, strength, k_aux)
        loss = loss + train.aux_weight * fvu(sae, residual.detach() - written, kinds)
    return loss


def _written_densely(sae: SparseAutoencoder, pre: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What the latents in `mask` write without b_dec, in the shape of the embeddings, and which of them fire, [m]."""
    z = pre * mask
    return sae.decode(z) - sae.b_dec, (z > 0).flatten(0, 1).any(0)


def _written_sparsely(
    sae: SparseAutoencoder, x: Tensor, kinds: Tensor, strength: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The same of the k latents of largest `strength`, by their rows alone."""
    code = sae.encode_sparse(x, kinds, strength, k)
    fired = torch.zeros(sae.config.latents, dtype=torch.bool, device=x.device)
    fired[code.latents[(code.activations > 0).any(1)]] = True
    return sae.decode_sparse(code, x.shape), fired
