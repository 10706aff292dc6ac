"""Stable Diffusion 1.x with its variants: `tests.examples.tiny_pipeline`, and others made of its parts."""

from __future__ import annotations

from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)

from tests.examples import tiny_pipeline
from tests.pipelines.parts import quiet, seeded


def stable_diffusion_image_to_image(seed: int = 0) -> StableDiffusionImg2ImgPipeline:
    parts = tiny_pipeline(seed).components
    return quiet(StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False))


def stable_diffusion_inpaint(seed: int = 0) -> StableDiffusionInpaintPipeline:
    """With the text-to-image UNet of four input channels, which the pipeline takes too."""
    parts = tiny_pipeline(seed).components
    return quiet(StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False))


def stable_diffusion_control(seed: int = 0) -> StableDiffusionControlNetPipeline:
    parts = tiny_pipeline(seed).components
    with seeded(seed + 1):
        control = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 8))
    return quiet(StableDiffusionControlNetPipeline(**parts, controlnet=control, requires_safety_checker=False))
