"""Every family that snce supports: how to build a tiny pipeline of it, and the smallest call that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.examples import tiny_pipeline
from tests.pipelines import audio, flux, language_models, sd3, sdxl, stable_diffusion, t5

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import DiffusionPipeline

FAMILIES: dict[str, Callable[[int], DiffusionPipeline]] = {
    "StableDiffusionPipeline": tiny_pipeline,
    "StableDiffusionImg2ImgPipeline": stable_diffusion.stable_diffusion_image_to_image,
    "StableDiffusionInpaintPipeline": stable_diffusion.stable_diffusion_inpaint,
    "StableDiffusionControlNetPipeline": stable_diffusion.stable_diffusion_control,
    "StableDiffusionXLPipeline": sdxl.sdxl,
    "StableDiffusionXLImg2ImgPipeline": sdxl.sdxl_image_to_image,
    "StableDiffusionXLInpaintPipeline": sdxl.sdxl_inpaint,
    "StableDiffusionXLControlNetPipeline": sdxl.sdxl_control,
    "StableDiffusion3Pipeline": sd3.sd3,
    "FluxPipeline": flux.flux,
    "PixArtAlphaPipeline": t5.pixart_alpha,
    "PixArtSigmaPipeline": t5.pixart_sigma,
    "WanPipeline": t5.wan,
    "CogVideoXPipeline": t5.cogvideox,
    "SanaPipeline": language_models.sana,
    "QwenImagePipeline": language_models.qwen_image,
    "ZImagePipeline": language_models.z_image,
    "Flux2Pipeline": language_models.flux2,
    "Flux2KleinPipeline": language_models.flux2_klein,
    "AudioLDM2Pipeline": audio.audioldm2,
}
"""Seed to pipeline, by the name of the pipeline's class. The same seed gives the same weights."""

_PICTURE = Image.effect_mandelbrot((8, 8), (-2, -1, 1, 1), 20).convert("RGB")
_MASK = Image.linear_gradient("L").resize((8, 8))
_SMALL = {"height": 8, "width": 8}
_SHORT = {"max_sequence_length": 64, **_SMALL}  # instead of up to 512 positions
_IMAGE_TO_IMAGE = {"image": _PICTURE, "strength": 1.0}
_INPAINT = {"image": _PICTURE, "mask_image": _MASK, "strength": 1.0, **_SMALL}
_CONTROL = {"image": _PICTURE, **_SMALL}
# one step means another algorithm to PixArt; clean_caption needs a library that snce does not
_PIXART = {"num_inference_steps": 2, "clean_caption": False, "use_resolution_binning": False, **_SMALL}

CALLS: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": _SMALL,
    "StableDiffusionImg2ImgPipeline": _IMAGE_TO_IMAGE,
    "StableDiffusionInpaintPipeline": _INPAINT,
    "StableDiffusionControlNetPipeline": _CONTROL,
    "StableDiffusionXLPipeline": _SMALL,
    "StableDiffusionXLImg2ImgPipeline": _IMAGE_TO_IMAGE,
    "StableDiffusionXLInpaintPipeline": _INPAINT,
    "StableDiffusionXLControlNetPipeline": _CONTROL,
    "StableDiffusion3Pipeline": _SHORT,
    "FluxPipeline": _SHORT,
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": _PIXART,
    "WanPipeline": {**_SHORT, "height": 16, "width": 16, "num_frames": 1},
    "CogVideoXPipeline": {**_SMALL, "num_frames": 1},
    "SanaPipeline": {"use_resolution_binning": False, "height": 32, "width": 32},
    "QwenImagePipeline": _SMALL,
    "ZImagePipeline": _SHORT,
    "Flux2Pipeline": {**_SHORT, "max_sequence_length": 256},
    "Flux2KleinPipeline": _SHORT,
    "AudioLDM2Pipeline": {"audio_length_in_s": 0.004},
}
"""Arguments beside the prompt with which a pipeline of the family draws its smallest picture, by the class's name."""
