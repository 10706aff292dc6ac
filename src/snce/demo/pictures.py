"""Drawing pictures with Emblem, reproducibly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from snce.emblem.load import GUIDANCE, STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import StableDiffusionPipeline


BATCH = 16


class Drawable(Protocol):
    """A prompt with the seed of its picture's noise."""

    @property
    def text(self) -> str: ...

    @property
    def seed(self) -> int: ...


@torch.no_grad()
def draw(
    pipe: StableDiffusionPipeline,
    prompts: Sequence[Drawable],
    steps: int = STEPS,
    advance: Callable[[int], object] | None = None,
) -> Tensor:
    """Pictures of `prompts`, uint8 [n, 3, 64, 64], each from the noise of its own seed.

    All batches have the same size (the last is filled up), so that a picture does not depend on how many are drawn.
    Prompts are encoded in float32, as neurons were calibrated; the denoiser runs in bfloat16, at twice the speed.
    """
    parts = []
    for i in range(0, len(prompts), BATCH):
        chunk = list(prompts[i : i + BATCH])
        full = chunk + chunk[-1:] * (BATCH - len(chunk))
        generators = [torch.Generator().manual_seed(p.seed) for p in full]
        prompt, negative = pipe.encode_prompt([p.text for p in full], pipe.device, 1, True)
        with torch.autocast(pipe.device.type, torch.bfloat16):
            result: Any = pipe(
                prompt_embeds=prompt,
                negative_prompt_embeds=negative,
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                generator=generators,
                output_type="pt",
            )
        parts.append((result.images[: len(chunk)].float() * 255).round().clamp(0, 255).to(torch.uint8))
        if advance:
            advance(len(chunk))
    return torch.cat(parts) if parts else torch.empty(0, 3, 64, 64, dtype=torch.uint8)
