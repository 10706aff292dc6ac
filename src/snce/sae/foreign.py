"""SAEs of other libraries: their weights, and how such an SAE becomes one of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snce.errors import SnceError
from snce.sae.batches import with_content
from snce.sae.config import SAEConfig
from snce.sae.metrics import kind_mean, measure
from snce.sae.model import SparseAutoencoder
from snce.sae.origin import SAEOrigin
from snce.sae.thresholds import calibrate_thresholds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snce.text.harvest import Embeddings
    from snce.text.towers import TextTower


@dataclass(frozen=True, eq=False)
class Weights:
    """An SAE that codes each position by itself, in the units of the embeddings:

    pre = W_enc (x - b_dec) + b_enc
    z = TopK(ReLU(pre)), or pre where it passes its threshold
    x_hat = W_dec^T z + b_dec
    """

    W_enc: Tensor
    """[m, d]"""
    b_enc: Tensor
    """[m]"""
    W_dec: Tensor
    """[m, d]"""
    b_dec: Tensor
    """[d]"""
    threshold: Tensor | None
    """[m]; None where the top k decide."""
    k: int | None
    """None where thresholds decide."""


def weights_of(sae: SparseAutoencoder) -> Weights:
    """An SAE of ours in the units of the embeddings: activations are `sae.scale` times ours, rows of W_dec the same.

    Both threshold and k are given; the caller drops one.
    """
    return Weights(
        sae.W_enc.detach(),
        sae.b_enc.detach() * sae.scale,
        sae.W_dec.detach(),
        sae.b_dec.detach(),
        sae.threshold * sae.scale,
        sae.config.k,
    )


@torch.no_grad()
def adopt(
    weights: Weights, tower: TextTower, data: Embeddings, training: Mapping[str, Any]
) -> tuple[SparseAutoencoder, SAEOrigin]:
    """The SAE of `weights` as one of ours, with thresholds, the unit of its activations and metrics taken on `data`.

    Its activations are those of the other library divided by `scale`, its reconstructions the same. Positions that hold
    begin-of-text are silent, as in all of our SAEs.

    Args:
        tower: the text encoder that it was trained on, as its user says: foreign files do not know.
        data: embeddings of prompts of the kind that the SAE was trained on, harvested from that tower.
        training: what is known about its making, for its origin.

    Raises:
        SnceError: an SAE of another width than the tower's, or embeddings without content.
    """
    latents, width = weights.W_enc.shape
    if width != tower.width or data.x.shape[-1] != width:
        raise SnceError(
            f"the SAE reads embeddings of width {width}; {tower.name}.{tower.path} of the model given has width "
            f"{tower.width}: name the model that the SAE was trained on"
        )
    prompts = with_content(data, torch.arange(len(data)))
    if len(prompts) == 0:
        raise SnceError("the prompts have no token but begin-of-text; give prompts with words in them")
    jump = weights.threshold is not None
    with torch.random.fork_rng(devices=[]):  # initial weights, overwritten below
        sae = SparseAutoencoder(
            SAEConfig(width, latents, weights.k or latents, "position", "jumprelu" if jump else "topk")
        )
    sae.W_enc.copy_(weights.W_enc)
    sae.W_dec.copy_(weights.W_dec)
    sae.b_dec.copy_(weights.b_dec)
    sae.scale.copy_(_root_mean_square(data, sae.b_dec))
    sae.b_enc.copy_(weights.b_enc / sae.scale)
    sae.eval().requires_grad_(False)
    if weights.threshold is not None:
        sae.threshold.copy_(weights.threshold / sae.scale)
        metrics = measure(sae, data, prompts, prompts)._asdict()
        sae.config = replace(sae.config, k=min(latents, max(1, round(metrics["l0"]))))
    else:
        agreement = calibrate_thresholds(sae, data)
        metrics = {**measure(sae, data, prompts, prompts)._asdict(), "threshold_f1": agreement.f1}
    origin = SAEOrigin(tower.fingerprint, tower.name, tower.path, tower.pipeline, dict(training), metrics)
    sae.origin = origin
    return sae, origin


def _root_mean_square(data: Embeddings, b_dec: Tensor) -> Tensor:
    """Root mean square norm of the centred embeddings; words, end and padding weigh alike, as in training."""
    squares = [(x.float() - b_dec).square().sum(-1) for x in data.x.split(128)]
    return kind_mean(torch.cat(squares), data.kinds).sqrt().clamp_min(1e-6)
