"""Stable Diffusion XL with its variants: two CLIP encoders of different widths, the second with a projection."""

from __future__ import annotations

from typing import Any

from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from tests.pipelines.parts import clip_encoder, image_autoencoder, quiet, seeded
from tests.pipelines.tokenizers import clip_tokenizer

WIDTHS = 32, 48
PROJECTION = 24
SIZES = 6  # numbers that tell the UNet the picture's original size, its crop and its target size


def sdxl(seed: int = 0) -> StableDiffusionXLPipeline:
    return quiet(StableDiffusionXLPipeline(**_parts(seed), add_watermarker=False))


def sdxl_image_to_image(seed: int = 0) -> StableDiffusionXLImg2ImgPipeline:
    return quiet(StableDiffusionXLImg2ImgPipeline(**_parts(seed), add_watermarker=False))


def sdxl_inpaint(seed: int = 0) -> StableDiffusionXLInpaintPipeline:
    return quiet(StableDiffusionXLInpaintPipeline(**_parts(seed), add_watermarker=False))


def sdxl_control(seed: int = 0) -> StableDiffusionXLControlNetPipeline:
    parts = _parts(seed)
    with seeded(seed + 1):
        control = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 8))
    return quiet(StableDiffusionXLControlNetPipeline(**parts, controlnet=control, add_watermarker=False))


def _parts(seed: int) -> dict[str, Any]:
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer(pad="!")
    with seeded(seed):
        return {
            "tokenizer": tokenizer,
            "tokenizer_2": tokenizer_2,
            "text_encoder": clip_encoder(tokenizer, WIDTHS[0]),
            "text_encoder_2": clip_encoder(tokenizer_2, WIDTHS[1], layers=4, projection=PROJECTION, hidden_act="gelu"),
            "unet": UNet2DConditionModel(
                sample_size=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(16, 16), layers_per_block=1,
                cross_attention_dim=sum(WIDTHS), attention_head_dim=2, norm_num_groups=8, use_linear_projection=True,
                addition_embed_type="text_time", addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=SIZES * 8 + PROJECTION,
            ),
            "vae": image_autoencoder(),
            "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
        }  # fmt: skip
