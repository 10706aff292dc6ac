"""FLUX.1: of CLIP only the pooled output, and T5."""

from __future__ import annotations

from diffusers import FluxPipeline, FluxTransformer2DModel

from tests.pipelines.parts import clip_encoder, flow_scheduler, image_autoencoder, quiet, seeded, t5_encoder
from tests.pipelines.tokenizers import clip_tokenizer, t5_tokenizer

CLIP_WIDTH, T5_WIDTH = 24, 40


def flux(seed: int = 0) -> FluxPipeline:
    tokenizer, tokenizer_2 = clip_tokenizer(), t5_tokenizer()
    with seeded(seed):
        transformer = FluxTransformer2DModel(patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
                                             attention_head_dim=16, num_attention_heads=2, joint_attention_dim=T5_WIDTH,
                                             pooled_projection_dim=CLIP_WIDTH, axes_dims_rope=(4, 4, 8))  # fmt: skip
        pipe = FluxPipeline(
            scheduler=flow_scheduler(use_dynamic_shifting=True),
            vae=image_autoencoder(shift_factor=0.1),
            # 2 stands in the released config, and tells CLIP to pool where the highest token id is
            text_encoder=clip_encoder(tokenizer, CLIP_WIDTH, eos_token_id=2),
            tokenizer=tokenizer,
            text_encoder_2=t5_encoder(tokenizer_2, T5_WIDTH),
            tokenizer_2=tokenizer_2,
            transformer=transformer,
        )
    return quiet(pipe)
