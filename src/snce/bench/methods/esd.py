"""Erased Stable Diffusion, ESD-x: the cross-attention learns to guide away from the concept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from snce.bench.methods.base import Knob
from snce.bench.methods.denoise import check_pipeline, encode, predict
from snce.bench.methods.sampling import Sampler, drawn
from snce.bench.methods.training import TrainedWeights, minimise, trainable_copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.text.prompts import Concept


@dataclass(frozen=True)
class ESD:
    """Gandikota et al., arXiv 2303.07345, variant ESD-x: every weight of cross-attention is trained so that

        e(x_t, c) = e0(x_t) - eta (e0(x_t, c) - e0(x_t)),

    e0 the frozen model, x_t sampled with guidance by the model that is trained, to a random step of its schedule. The
    weights add up to one, so the target is the same for epsilon and v. Several concepts: each sample of a batch is
    drawn for one of them at random, which is the sum of their losses in expectation. Guidance and the sampler's
    schedule are DDIM's on the model's noise schedule.
    """

    name: ClassVar[str] = "esd-x"
    knob: ClassVar[Knob | None] = Knob("lr", (1e-5, 3e-5, 1e-4, 3e-4))

    steps: int = 1000
    """Optimiser steps."""
    lr: float = 1e-5
    """Of Adam."""
    eta: float = 1.0
    """Strength of the guidance away from the concept."""
    guidance: float = 3.0
    """Scale of guidance with which x_t is sampled."""
    sampling_steps: int = 50
    """Length of the schedule that x_t is sampled on; half of it is walked for a training step, on average."""
    batch: int = 1
    """Samples per step."""
    prompts: Literal["name", "targets"] = "name"
    """c: the concept's name, as published, or its target prompts."""
    progress: bool = field(default=False, repr=False, compare=False)
    """Show a progress bar."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> TrainedWeights:
        """Train a copy of the UNet.

        Raises:
            SnceError: a pipeline of another kind, or a loss that is not finite.
        """
        check_pipeline(pipe)
        unet, parameters = trainable_copy(pipe.unet, lambda name: ".attn2." in name)
        sampler = Sampler(pipe, self.sampling_steps, self.guidance)
        # of each concept by itself, so that one with many prompts is not drawn more often
        embeddings = [encode(pipe, [c.name] if self.prompts == "name" else c.targets) for c in concepts]

        def loss(rng: torch.Generator) -> Tensor:
            c = drawn(embeddings, self.batch, rng)
            x, t = sampler.to_random_step(unet, c, rng)
            with torch.no_grad():
                null = predict(pipe.unet, x, t, sampler.null).float()
                target = null - self.eta * (predict(pipe.unet, x, t, c).float() - null)
            return torch.nn.functional.mse_loss(predict(unet, x, t, c).float(), target)

        trained = list(parameters.values())
        optimizer = torch.optim.Adam(trained, self.lr)
        losses = minimise(trained, loss, optimizer, self.steps, seed, self.name, self.progress)
        return TrainedWeights.of(parameters, pipe.unet, losses)
