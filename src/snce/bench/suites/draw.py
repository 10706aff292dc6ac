"""Drawing the pictures of a suite."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from snce.bench.suites.config import SUITES, SuiteConfig
from snce.pipelines import EMBLEM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snce.bench.suites.prompts import SuitePrompt


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn."""

    steps: int
    guidance: float
    """Scale for prompts that bring none."""
    for_all: bool
    """Whether that scale replaces what they bring."""
    batch: int

    @classmethod
    def of(cls, pipe: Any, config: SuiteConfig) -> Sampling:
        """The options', else the suite's published ones, else the pipeline's own."""
        suite, own = SUITES[config.suite], signature(pipe.__call__).parameters
        steps, guidance = own["num_inference_steps"].default, own["guidance_scale"].default
        if config.model == EMBLEM:
            from snce.emblem.load import GUIDANCE, STEPS

            steps, guidance = STEPS, GUIDANCE
        given = (config.guidance, suite.guidance, guidance)
        return cls(
            config.steps or suite.steps or steps,
            next(float(g) for g in given if g is not None),
            config.guidance is not None,
            config.batch,
        )

    def guidance_of(self, p: SuitePrompt) -> float:
        return self.guidance if self.for_all or p.guidance is None else p.guidance


@torch.no_grad()
def draw(
    pipe: Any, prompts: Sequence[SuitePrompt], sampling: Sampling, advance: Callable[[int], object] | None = None
) -> list[Image.Image]:
    """Pictures of `prompts`, in their order, each from the noise of its own seed (drawn on the CPU, so that it is the
    same on every device), at the pipeline's own size.

    Prompts of one scale of guidance are drawn together. Prompts are encoded in float32, as neurons were calibrated; on
    a GPU the rest runs in half precision.
    """
    images: list[Image.Image | None] = [None] * len(prompts)
    for scale in dict.fromkeys(map(sampling.guidance_of, prompts)):
        places = [i for i, p in enumerate(prompts) if sampling.guidance_of(p) == scale]
        for start in range(0, len(places), sampling.batch):
            chosen = places[start : start + sampling.batch]
            for i, image in zip(chosen, _batch(pipe, [prompts[i] for i in chosen], sampling.steps, scale), strict=True):
                images[i] = image
            if advance:
                advance(len(chosen))
    return [image for image in images if image is not None]


def _batch(pipe: Any, prompts: Sequence[SuitePrompt], steps: int, scale: float) -> list[Image.Image]:
    device = torch.device(pipe.device)
    prompt, negative = pipe.encode_prompt([p.text for p in prompts], device, 1, scale > 1)
    half = torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()
    with half:
        result = pipe(
            prompt_embeds=prompt,
            negative_prompt_embeds=negative,
            num_inference_steps=steps,
            guidance_scale=scale,
            generator=[torch.Generator().manual_seed(p.seed) for p in prompts],
            output_type="pt",
        )
    pixels = (result.images.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]
