"""Concept ablation (CA): the concept's prompts are led to what an anchor's prompts draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from snce.bench.methods.base import Knob
from snce.bench.methods.denoise import check_pipeline, encode, predict
from snce.bench.methods.prompts import neutral_prompts
from snce.bench.methods.sampling import Sampler, drawn
from snce.bench.methods.training import TrainedWeights, minimise, trainable_copy
from snce.checkpoint import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.text.prompts import Concept


@dataclass(frozen=True)
class ConceptAblation:
    """Kumari et al., arXiv 2303.13516, the model-based loss: minimise |e(x_t, target) - sg e(x_t, anchor)|^2,

    sg: no gradient. Both are predictions of the model that is trained; x_t is a noised picture that the original
    model drew for the anchor prompt, at a random timestep. Only the cross-attention's projections to keys and values
    are trained (the published default). The published prior-preservation loss is optional there, and left out.

    Published anchors are prompts of a category that is written for each concept ("cat" for "grumpy cat"), and the
    target is the same prompt with the one word in place of the other. Here anchors are the concept's neutral prompts
    that name no erased concept, or the empty prompt, and any target prompt is led to any of them. The loss equates two
    predictions, which is the same demand for epsilon and v. Several concepts: targets are drawn from all of them,
    which sums their losses in expectation.
    """

    name: ClassVar[str] = "concept-ablation"
    knob: ClassVar[Knob | None] = Knob("lr", (1.6e-5, 5e-5, 1.6e-4, 5e-4))

    steps: int = 100
    """Optimiser steps."""
    lr: float = 1.6e-5
    """Of AdamW: the published 2e-6, scaled by its 2 x 4 pictures per step."""
    batch: int = 8
    """Pictures per step."""
    anchor: Literal["neutrals", "empty"] = "neutrals"
    """What the target prompts are led to."""
    images: int = 200
    """Anchor pictures (latents) to train on; drawn before training."""
    sampling_steps: int = 50
    """Denoising steps for each."""
    guidance: float = 6.0
    """Scale of guidance that they are drawn with; without effect on the empty prompt."""
    progress: bool = field(default=False, repr=False)
    """Show a progress bar."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> TrainedWeights:
        """Draw the anchor pictures, and train a copy of the UNet. No pictures are drawn for no steps.

        Raises:
            SnceError: a pipeline of another kind, no usable anchor prompt, or a loss that is not finite.
        """
        check_pipeline(pipe)
        unet, parameters = trainable_copy(pipe.unet, lambda n: ".attn2.to_k." in n or ".attn2.to_v." in n)
        if self.steps == 0:
            return TrainedWeights.of(parameters, pipe.unet, ())
        prompts = [""] if self.anchor == "empty" else neutral_prompts(concepts)
        rng = generator(seed, -1)
        chosen = torch.randint(len(prompts), (self.images,), generator=rng).tolist()
        anchors = encode(pipe, [prompts[i] for i in chosen]).float()
        targets = [encode(pipe, c.targets).float() for c in concepts]
        sampler = Sampler(pipe, self.sampling_steps, self.guidance)
        clean = torch.cat([sampler.to_the_end(unet, part, rng) for part in anchors.split(16)])

        def loss(rng: torch.Generator) -> Tensor:
            rows = torch.randint(len(clean), (self.batch,), generator=rng)
            t = torch.randint(sampler.scheduler.config.num_train_timesteps, (self.batch,), generator=rng)
            t = t.to(clean.device)
            noise = torch.randn(clean[rows].shape, generator=rng).to(clean)
            x = sampler.scheduler.add_noise(clean[rows], noise, t)
            with torch.no_grad():
                target = predict(unet, x, t, anchors[rows]).float()
            c = drawn(targets, self.batch, rng)
            return torch.nn.functional.mse_loss(predict(unet, x, t, c).float(), target)

        trained = list(parameters.values())
        optimizer = torch.optim.AdamW(trained, self.lr, weight_decay=0.01)
        losses = minimise(trained, loss, optimizer, self.steps, seed, self.name, self.progress)
        return TrainedWeights.of(parameters, pipe.unet, losses)
