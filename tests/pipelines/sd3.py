"""Stable Diffusion 3: two CLIP encoders with projections, and T5."""

from __future__ import annotations

from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

from tests.pipelines.parts import clip_encoder, flow_scheduler, image_autoencoder, quiet, seeded, t5_encoder
from tests.pipelines.tokenizers import clip_tokenizer, t5_tokenizer

WIDTHS = 32, 48
PROJECTIONS = 16, 24
T5_WIDTH = 96  # wider than both CLIP encoders together, as in the released one


def sd3(seed: int = 0) -> StableDiffusion3Pipeline:
    tokenizers = clip_tokenizer(), clip_tokenizer(pad="!"), t5_tokenizer()
    with seeded(seed):
        transformer = SD3Transformer2DModel(sample_size=4, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
                                            attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
                                            joint_attention_dim=T5_WIDTH, pooled_projection_dim=sum(PROJECTIONS),
                                            pos_embed_max_size=8)  # fmt: skip
        pipe = StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=flow_scheduler(),
            vae=image_autoencoder(shift_factor=0.06),
            text_encoder=clip_encoder(tokenizers[0], WIDTHS[0], projection=PROJECTIONS[0]),
            tokenizer=tokenizers[0],
            text_encoder_2=clip_encoder(tokenizers[1], WIDTHS[1], layers=4, projection=PROJECTIONS[1]),
            tokenizer_2=tokenizers[1],
            text_encoder_3=t5_encoder(tokenizers[2], T5_WIDTH),
            tokenizer_3=tokenizers[2],
        )
    return quiet(pipe)
