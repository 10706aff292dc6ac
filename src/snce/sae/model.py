"""The sparse autoencoder (SAE).

One class covers two kinds of code:

*position code* (`support="position"`): every token position is coded by itself, as in the paper (arXiv 2509.21008) and
as SAEs are usually built. The top k latents are chosen per position.

*prompt code* (`support="prompt"`): the positions of a prompt share their active latents, as the layers of a model share
them in a crosscoder. The top k latents are chosen per prompt, by the energy that they give to all positions together;
each position still has its own activation of them. It costs a prompt nothing to use a latent that it uses already, so
what a concept writes at its word, at end-of-text and into the padding comes together in one latent.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from snce.hub.mixin import HubMixin
from snce.text.positions import BEGIN, KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from snce.sae.config import SAEConfig
    from snce.sae.origin import SAEOrigin


class Code(NamedTuple):
    """Sparse code of a batch of prompts, written out in full."""

    activations: Tensor
    """z, [n, positions, m]: zero but for the active latents."""
    pre: Tensor
    """Activations before the choice of the active ones (after ReLU), [n, positions, m]."""


class SparseCode(NamedTuple):
    """The same, only the active latents: u rows (prompts, or positions) of p positions each."""

    latents: Tensor
    """The active ones, [u, k]."""
    activations: Tensor
    """[u, p, k]."""


def top_mask(strength: Tensor, k: int) -> Tensor:
    """The k largest of each row [..., m], if above zero, as a mask."""
    kept = strength.topk(k, dim=-1).indices
    return torch.zeros_like(strength, dtype=torch.bool).scatter_(-1, kept, True) & (strength > 0)


class SparseAutoencoder(nn.Module, HubMixin, file="sae.safetensors"):
    """pre = W_enc (x - b_dec) / scale + b_enc,  z = TopK(ReLU(pre)),  x_hat = scale * W_dec^T z + b_dec;
    rows of W_dec have unit norm (Gao et al. 2024, arXiv 2406.04093, eq. 1-3)."""

    origin: SAEOrigin | None = None
    """What it was trained on, and how; None if it was not read from a file and nobody said."""

    def __init__(self, config: SAEConfig) -> None:
        super().__init__()
        self.config = config
        rows = nn.functional.normalize(torch.randn(config.latents, config.width), dim=1)
        self.W_enc = nn.Parameter(rows.clone())
        self.W_dec = nn.Parameter(rows.clone())
        self.b_enc = nn.Parameter(torch.zeros(config.latents))
        self.b_dec = nn.Parameter(torch.zeros(config.width))
        self.register_buffer("scale", torch.ones(()))
        self.scale: Tensor
        """Root mean square norm of the centred embeddings: activations are in its units."""
        self.register_buffer("threshold", torch.zeros(config.latents))
        self.threshold: Tensor
        """Calibrated so that an activation above it agrees with being among the top k: see `calibrate_thresholds`.
        Of a jumprelu SAE, what decides."""

    def pre(self, x: Tensor, kinds: Tensor) -> Tensor:
        """ReLU(pre), [n, positions, m]; zero at begin-of-text. x: [n, positions, d]; kinds: [n, positions]."""
        centred = (x - self.b_dec) / self.scale
        return torch.relu(centred @ self.W_enc.T + self.b_enc) * (kinds != BEGIN)[..., None]

    def energy(self, pre: Tensor, kinds: Tensor) -> Tensor:
        """What each latent gives to a prompt, [n, 1, m]: its squared activation, averaged over the positions of each
        kind and summed over the kinds, so that long padding does not outweigh the words."""
        weight = torch.zeros(kinds.shape, dtype=pre.dtype, device=pre.device)
        for kind in KINDS:
            here = kinds == kind
            weight = torch.where(here, 1 / here.sum(1, keepdim=True).clamp_min(1), weight)
        return torch.einsum("np,npm->nm", weight, pre.square())[:, None]

    def strength(self, pre: Tensor, kinds: Tensor) -> Tensor:
        """By what the active latents are chosen: [n, 1, m] for a prompt code, [n, positions, m] for a position code."""
        return self.energy(pre, kinds) if self.config.support == "prompt" else pre

    def choose(self, pre: Tensor, kinds: Tensor) -> Tensor:
        """Mask of the active latents, bool [n, 1 or positions, m]."""
        if self.config.activation == "jumprelu":
            return pre > self.threshold.clamp_min(0)
        strength, k = self.strength(pre, kinds), self.config.k
        if self.config.activation == "batchtopk" and self.training:
            # positions that are left alone have no share in the k per row
            rows = len(strength) if self.config.support == "prompt" else int((kinds != BEGIN).sum())
            kept = strength.flatten().topk(min(k * rows, strength.numel())).indices
            mask = torch.zeros(strength.numel(), dtype=torch.bool, device=pre.device)
            mask[kept] = True
            return mask.view(strength.shape) & (strength > 0)
        return top_mask(strength, k)

    def encode(self, x: Tensor, kinds: Tensor) -> Code:
        """x: [n, positions, d]; kinds: [n, positions]."""
        pre = self.pre(x, kinds)
        return Code(pre * self.choose(pre, kinds), pre)

    def decode(self, z: Tensor) -> Tensor:
        """x_hat, [..., d], of activations [..., m]."""
        return self.scale * (z @ self.W_dec) + self.b_dec

    def forward(self, x: Tensor, kinds: Tensor) -> Tensor:
        return self.decode(self.encode(x, kinds).activations)

    # -- the same by the active latents alone, for training ------------------------------------------------------------

    def encode_sparse(self, x: Tensor, kinds: Tensor, strength: Tensor, k: int) -> SparseCode:
        """The k latents of largest `strength` (see there) and their activations.

        The choice needs one dense product and no gradient; gradients pass through the chosen rows only, which is all
        that a TopK's gradient is. With k = config.k the values equal those of `encode`.
        """
        best, index = strength.flatten(0, 1).topk(k, dim=-1)
        rows = x.reshape(len(index), -1, x.shape[-1])
        used = (kinds != BEGIN).reshape(len(index), -1, 1) & (best > 0)[:, None]
        centred = (rows - self.b_dec) / self.scale
        z = torch.relu(torch.baddbmm(self.b_enc[index][:, None], centred, self.W_enc[index].transpose(1, 2)))
        return SparseCode(index, z * used)

    def decode_sparse(self, code: SparseCode, shape: torch.Size) -> Tensor:
        """What the active latents write, without b_dec, in the `shape` [n, positions, d] of the embeddings."""
        return self.scale * (code.activations @ self.W_dec[code.latents]).reshape(shape)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Scale each decoder row to unit norm."""
        self.W_dec /= self.W_dec.norm(dim=-1, keepdim=True).clamp_min(1e-8)

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Drop the decoder gradient's part along each row: it would only change the norm."""
        if self.W_dec.grad is not None:
            self.W_dec.grad -= (self.W_dec.grad * self.W_dec).sum(-1, keepdim=True) * self.W_dec

    def describe(self) -> dict:
        return asdict(self.config)

    # -- folders and the hub: see snce.hub.mixin -----------------------------------------------------------------------

    def _write_hub_file(self, path: Path) -> None:
        from snce.sae.card import origin_of
        from snce.sae.formats import save_sae

        save_sae(self, path, origin_of(self))

    @classmethod
    def _read_hub_file(cls, path: Path) -> SparseAutoencoder:
        from snce.sae.formats import load_sae

        return load_sae(path)[0]

    def _describe_for_hub(self, filename: str, repo_id: str | None) -> tuple[str, dict[str, Any]]:
        from snce.sae.card import describe_for_hub

        return describe_for_hub(self, filename, repo_id)
