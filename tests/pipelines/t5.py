"""Pictures and videos from T5 alone: PixArt, CogVideoX, and Wan with UMT5."""

from __future__ import annotations

from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import UMT5Config, UMT5EncoderModel

from tests.pipelines.parts import flow_scheduler, image_autoencoder, lively, quiet, seeded, t5_encoder
from tests.pipelines.tokenizers import t5_tokenizer

WIDTH = 40


def pixart_alpha(seed: int = 0) -> PixArtAlphaPipeline:
    return _pixart(PixArtAlphaPipeline, seed)


def pixart_sigma(seed: int = 0) -> PixArtSigmaPipeline:
    return _pixart(PixArtSigmaPipeline, seed)


def _pixart(kind, seed: int):
    tokenizer = t5_tokenizer()
    with seeded(seed):
        transformer = PixArtTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=4,
                                               out_channels=8, num_layers=1, cross_attention_dim=16, sample_size=8,
                                               caption_channels=WIDTH, use_additional_conditions=False)  # fmt: skip
        pipe = kind(tokenizer, t5_encoder(tokenizer, WIDTH), image_autoencoder(), transformer,
                    DPMSolverMultistepScheduler())  # fmt: skip
    return quiet(pipe)


def wan(seed: int = 0) -> WanPipeline:
    tokenizer = t5_tokenizer()
    with seeded(seed):
        config = UMT5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=20, d_ff=80, num_layers=2, num_heads=2,
                            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
        text_encoder = lively(UMT5EncoderModel(config))
        transformer = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
                                            text_dim=WIDTH, freq_dim=16, ffn_dim=32, num_layers=1,
                                            rope_max_seq_len=32)  # fmt: skip
        vae = AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True],
                               latents_mean=[0.0] * 4, latents_std=[1.0] * 4, scale_factor_temporal=2,
                               scale_factor_spatial=2)  # fmt: skip
        pipe = WanPipeline(tokenizer, text_encoder, vae, flow_scheduler(), transformer)
    return quiet(pipe)


def cogvideox(seed: int = 0) -> CogVideoXPipeline:
    tokenizer = t5_tokenizer()
    with seeded(seed):
        transformer = CogVideoXTransformer3DModel(num_attention_heads=2, attention_head_dim=16, in_channels=4,
                                                  out_channels=4, time_embed_dim=8, text_embed_dim=WIDTH, num_layers=1,
                                                  sample_width=4, sample_height=4, sample_frames=1, patch_size=2,
                                                  temporal_compression_ratio=1)  # fmt: skip
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 2, up_block_types=("CogVideoXUpBlock3D",) * 2,
            block_out_channels=(8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=4,
            temporal_compression_ratio=1, sample_height=8, sample_width=8,
        )  # fmt: skip
        pipe = CogVideoXPipeline(tokenizer, t5_encoder(tokenizer, WIDTH), vae, transformer, CogVideoXDDIMScheduler())
    return quiet(pipe)
