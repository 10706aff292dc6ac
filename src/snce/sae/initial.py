"""The weights that training begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from snce.errors import SnceError
from snce.sae.metrics import kind_mean
from snce.sae.model import top_mask
from snce.text.positions import KINDS

if TYPE_CHECKING:
    from torch import Tensor

    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings


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
    x, kinds = data.x[rows].float(), data.kinds[rows]
    if not torch.isfinite(x).all():
        raise SnceError("the embeddings hold NaN or infinity")
    present = [kind for kind in KINDS if (kinds == kind).any()]
    if not present:
        raise SnceError("the prompts have no token but begin-of-text")
    sae.b_dec.copy_(torch.stack([x[kinds == kind].mean(0) for kind in present]).mean(0))
    centred = x - sae.b_dec
    sae.scale.copy_(kind_mean(centred.square().sum(-1), kinds).sqrt().clamp_min(1e-6))
    pool = torch.cat([centred[kinds == kind][:4096] for kind in present])
    drawn = pool[torch.randint(len(pool), (sae.config.latents,), generator=rng)]
    sae.W_dec.copy_(torch.nn.functional.normalize(drawn + 1e-3 * sae.scale * sae.W_dec, dim=1))
    sae.W_enc.copy_(sae.W_dec)
    if fitted:
        x = pool[torch.randint(len(pool), (1024,), generator=rng)] / sae.scale
        pre = torch.relu(x @ sae.W_enc.T)
        written = (pre * top_mask(pre, sae.config.k)) @ sae.W_dec
        sae.W_enc.mul_((x * written).sum() / written.square().sum().clamp_min(1e-12))
