"""Concept ablation (CA): the concept's prompts are led to what an anchor's prompts draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from snce.bench.methods.base import Knob
from snce.bench.methods.denoise import check_pipeline, encode, predict
from snce.bench.methods.prompts import neutral_prompts, without_concepts
from snce.bench.methods.sampling import Sampler
from snce.bench.methods.training import TrainedWeights, minimise, trainable_copy
from snce.checkpoint import generator
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snce.text.prompts import Concept


@dataclass(frozen=True)
class ConceptAblation:
    """Kumari et al., arXiv 2303.13516, the model-based loss with prior preservation: minimise

        |e(x_t, target) - sg e(x_t, anchor)|^2 + prior |e(y_s, anchor') - noise of y_s|^2,

    sg: no gradient. All are predictions of the model that is trained; x_t and y_s are pictures that the original model
    drew for the anchor prompts, each noised to a timestep drawn at random. Only the cross-attention's projections to
    keys and values are trained (the published default).

    Target and anchor are one prompt but for the concept: "a photo of a grumpy cat" and "a photo of a cat" as published,
    where every concept has a category that is written for it. Such pairs come from `anchor`; without it, target prompts
    are led to neutral ones that have nothing else in common with them. The loss equates predictions, which is the same
    demand for epsilon and v. Several concepts: pairs of all of them, which sums their losses in expectation; pairs
    whose anchor shows one of them are left out.
    """

    name: ClassVar[str] = "concept-ablation"
    knob: ClassVar[Knob | None] = Knob("lr", (1.6e-5, 5e-5, 1.6e-4, 5e-4, 1.6e-3, 5e-3))

    steps: int = 100
    """Optimiser steps."""
    lr: float = 1.6e-5
    """Of AdamW: the published 2e-6, scaled by its 2 x 4 pictures per step."""
    batch: int = 8
    """Pictures per step."""
    anchor: Callable[[Concept, str], str] | None = field(default=None, repr=False)
    """The prompt that a target prompt of a concept is led to; None for any of the neutral prompts."""
    prior: float = 1.0
    """Weight of the prior preservation."""
    images: int = 200
    """Anchor pictures (latents) to train on; drawn before training."""
    sampling_steps: int = 50
    """Denoising steps for each."""
    guidance: float = 6.0
    """Scale of guidance that they are drawn with; without effect on the empty prompt."""
    progress: bool = field(default=False, repr=False, compare=False)
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
        rng = generator(seed, -1)
        pairs = self._pairs(concepts, rng)
        targets, anchors = (encode(pipe, side).float() for side in zip(*pairs, strict=True))
        sampler = Sampler(pipe, self.sampling_steps, self.guidance)
        in_epsilon = sampler.scheduler.config.prediction_type == "epsilon"
        clean = torch.cat([sampler.to_the_end(unet, part, rng) for part in anchors.split(16)])

        def noised(rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            """(rows, x_t, t, what the model should predict) of a batch."""
            rows = torch.randint(len(clean), (self.batch,), generator=rng)
            t = torch.randint(sampler.scheduler.config.num_train_timesteps, (self.batch,), generator=rng)
            noise = torch.randn(clean[rows].shape, generator=rng).to(clean)
            t = t.to(clean.device)
            x = sampler.scheduler.add_noise(clean[rows], noise, t)
            return rows, x, t, noise if in_epsilon else sampler.scheduler.get_velocity(clean[rows], noise, t)

        def loss(rng: torch.Generator) -> Tensor:
            rows, x, t, _ = noised(rng)
            with torch.no_grad():
                wanted = predict(unet, x, t, anchors[rows]).float()
            ablation = mse_loss(predict(unet, x, t, targets[rows]).float(), wanted)
            if self.prior == 0:
                return ablation
            rows, x, t, wanted = noised(rng)
            return ablation + self.prior * mse_loss(predict(unet, x, t, anchors[rows]).float(), wanted)

        trained = list(parameters.values())
        optimizer = torch.optim.AdamW(trained, self.lr, weight_decay=0.01)
        losses = minimise(trained, loss, optimizer, self.steps, seed, self.name, self.progress)
        return TrainedWeights.of(parameters, pipe.unet, losses)

    def _pairs(self, concepts: Sequence[Concept], rng: torch.Generator) -> list[tuple[str, str]]:
        """(target, anchor) for each of the pictures, drawn at random."""
        targets = [(concept, target) for concept in concepts for target in concept.targets]
        if self.anchor is None:
            anchors = neutral_prompts(concepts)
            drawn = torch.randint(len(anchors), (len(targets),), generator=rng).tolist()
            pairs = [(target, anchors[i]) for (_, target), i in zip(targets, drawn, strict=True)]
        else:
            pairs = [(target, self.anchor(concept, target)) for concept, target in targets]
            usable = set(without_concepts([anchor for _, anchor in pairs], concepts))
            pairs = [pair for pair in pairs if pair[1] in usable]
        if not pairs:
            raise SnceError("the anchor of every target prompt shows a concept that is to be erased")
        return [pairs[i] for i in torch.randint(len(pairs), (self.images,), generator=rng).tolist()]
