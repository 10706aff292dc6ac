"""The shape of a sparse autoencoder, and how it is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from snce.errors import SnceError


@dataclass(frozen=True)
class SAEConfig:
    """Shape of a sparse autoencoder."""

    width: int
    """d: numbers per token embedding."""
    latents: int = 2048
    """m: neurons in the dictionary."""
    k: int = 8
    """Active latents per prompt (prompt code) or per position (position code); of a jumprelu SAE about as many."""
    support: Literal["prompt", "position"] = "prompt"
    """Whether the positions of a prompt share their active latents."""
    activation: Literal["topk", "batchtopk", "jumprelu"] = "topk"
    """Top k of each row; the top k * rows of the whole batch; or, for SAEs that other libraries trained, whatever
    passes its latent's threshold (position code only)."""

    def __post_init__(self) -> None:
        if not 0 < self.k <= self.latents:
            raise SnceError(f"k = {self.k} must lie between 1 and the number of latents, {self.latents}")
        if self.width < 1:
            raise SnceError(f"width = {self.width} must be positive")
        if self.activation == "jumprelu" and self.support == "prompt":
            raise SnceError("a jumprelu SAE codes each position by itself: its support must be 'position'")

    @classmethod
    def plain(cls, width: int, **fields) -> SAEConfig:
        """The per-position SAE of the paper."""
        return cls(width, **{"support": "position", "k": 32} | fields)


@dataclass(frozen=True)
class TrainConfig:
    """How a sparse autoencoder is trained.

    Raises:
        SnceError: a number that makes no sense.
    """

    steps: int = 4_800
    """Optimiser steps."""
    batch: int = 64
    """Prompts per step."""
    lr: float = 3e-3
    """Peak rate of Adam; a linear warm-up over 5 % of the steps, a linear decay over the last 30 %."""
    padding: int = 2
    """Padding positions drawn per prompt and step: they are many and nearly alike."""
    aux_k: int = 64
    """Dead latents that reconstruct the residual (AuxK of Gao et al. 2024); 0 for none."""
    aux_weight: float = 1 / 32
    """Weight of that loss."""
    dead_after: int = 150
    """Steps of silence after which a latent counts as dead."""
    nested: tuple[int, ...] = ()
    """Matryoshka (Bussmann et al. 2025, arXiv 2503.17547): the first n latents alone must reconstruct too, for each n
    given here, so that the first ones stand for what is common; the loss is the mean over all of these."""
    held_out: float = 0.05
    """Share of the prompts on which the metrics are taken; one prompt at least."""
    seed: int = 0
    """Seed of the initial weights and of the batches."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("batch", 1), ("padding", 0), ("aux_k", 0), ("dead_after", 0)):
            if getattr(self, name) < least:
                raise SnceError(f"{name} = {getattr(self, name)} must be at least {least}")
        if not (self.lr >= 0 and math.isfinite(self.lr)):
            raise SnceError(f"lr = {self.lr} must be a number that is not negative")
        if not 0 <= self.held_out < 1:
            raise SnceError(f"held_out = {self.held_out} must be a share below 1")
