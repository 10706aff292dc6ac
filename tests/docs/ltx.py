"""A small LTXPipeline with random weights: one that is not in the table of pipelines."""

from __future__ import annotations

from diffusers import AutoencoderKLLTXVideo, LTXPipeline, LTXVideoTransformer3DModel

from tests.pipelines.parts import flow_scheduler, quiet, seeded, t5_encoder
from tests.pipelines.tokenizers import t5_tokenizer

WIDTH = 40


def ltx(seed: int = 0) -> LTXPipeline:
    tokenizer = t5_tokenizer()
    with seeded(seed):
        transformer = LTXVideoTransformer3DModel(in_channels=4, out_channels=4, num_attention_heads=2,
                                                 attention_head_dim=8, cross_attention_dim=16, num_layers=1,
                                                 caption_channels=WIDTH)  # fmt: skip
        vae = AutoencoderKLLTXVideo(
            latent_channels=4, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False), decoder_inject_noise=(False,) * 5,
            upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, patch_size=1,
        )  # fmt: skip
        pipe = LTXPipeline(flow_scheduler(), vae, t5_encoder(tokenizer, WIDTH), tokenizer, transformer)
    return quiet(pipe)
