"""Sampling as the trained methods need it: to a random step, or to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from snce.bench.methods.denoise import encode, predict

if TYPE_CHECKING:
    from collections.abc import Sequence


def drawn(embeddings: Sequence[Tensor], n: int, rng: torch.Generator) -> Tensor:
    """n embeddings [n, positions, d]: a group at random, then one of it at random."""
    groups = torch.randint(len(embeddings), (n,), generator=rng).tolist()
    return torch.stack([embeddings[g][int(torch.randint(len(embeddings[g]), (), generator=rng))] for g in groups])


class Noisy(NamedTuple):
    """Latents part of the way from noise to a picture."""

    x: Tensor
    """x_t, [b, c, h, w]."""
    t: Tensor
    """Timestep, a scalar."""


class Sampler:
    """A deterministic DDIM of its own with a pipeline's noise schedule: the pipeline's scheduler has state."""

    def __init__(self, pipe: Any, steps: int, guidance: float) -> None:
        from diffusers import DDIMScheduler

        self.scheduler: Any = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)
        self.scheduler.set_timesteps(steps, device=pipe.unet.device)
        self.guidance = guidance
        self.null = encode(pipe, [""])

    @torch.no_grad()
    def start(self, unet: Any, n: int, rng: torch.Generator) -> Tensor:
        """Noise [n, c, h, w], float32."""
        size = unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return torch.randn(n, unet.config.in_channels, height, width, generator=rng).to(unet.device)

    @torch.no_grad()
    def step(self, unet: nn.Module, x: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        """x at the next timestep."""
        both = torch.cat([self.null.expand(len(x), -1, -1), embeddings])
        unconditional, conditional = predict(unet, torch.cat([x, x]), t, both).float().chunk(2)
        guided = unconditional + self.guidance * (conditional - unconditional)
        return self.scheduler.step(guided, t, x, return_dict=False)[0]

    def to_random_step(self, unet: Any, embeddings: Tensor, rng: torch.Generator) -> Noisy:
        """Denoise to a step drawn uniformly, the first and the last included; one step for the whole batch."""
        timesteps = self.scheduler.timesteps
        stop = int(torch.randint(len(timesteps), (), generator=rng))
        x = self.start(unet, len(embeddings), rng)
        for t in timesteps[:stop]:
            x = self.step(unet, x, t, embeddings)
        return Noisy(x, timesteps[stop])

    def to_the_end(self, unet: Any, embeddings: Tensor, rng: torch.Generator) -> Tensor:
        """Clean latents [b, c, h, w]."""
        x = self.start(unet, len(embeddings), rng)
        for t in self.scheduler.timesteps:
            x = self.step(unet, x, t, embeddings)
        return x
