"""Pictures from language models: Sana (Gemma 2), Qwen-Image (Qwen2.5-VL), Z-Image and FLUX.2 klein (Qwen 3), FLUX.2
(Mistral 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import (
    AutoencoderDC,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from tests.pipelines.parts import flow_scheduler, image_autoencoder, lively, quiet, seeded
from tests.pipelines.tokenizers import gemma_tokenizer, mistral_processor, qwen_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WIDTH = 32
FLUX2_WIDTH = 16  # three layers of it reach the denoiser


def sana(seed: int = 0) -> SanaPipeline:
    tokenizer = gemma_tokenizer()
    with seeded(seed):
        text_encoder = Gemma2Model(Gemma2Config(**_decoder(tokenizer, WIDTH, layers=2), query_pre_attn_scalar=16))
        transformer = SanaTransformer2DModel(in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8,
                                             num_layers=1, num_cross_attention_heads=2, cross_attention_head_dim=8,
                                             cross_attention_dim=16, caption_channels=WIDTH, sample_size=8)  # fmt: skip
        vae = AutoencoderDC(
            latent_channels=4, attention_head_dim=2, encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()), downsample_block_type="conv",
            upsample_block_type="interpolate", decoder_norm_types="rms_norm", scaling_factor=0.4,
        )  # fmt: skip
        pipe = SanaPipeline(tokenizer, lively(text_encoder), vae, transformer, DPMSolverMultistepScheduler())
    return quiet(pipe)


def qwen_image(seed: int = 0) -> QwenImagePipeline:
    tokenizer = qwen_tokenizer()
    with seeded(seed):
        config = Qwen2_5_VLConfig(
            text_config={
                **_decoder(tokenizer, WIDTH, layers=2),
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            },
            vision_config={"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1,
                           "out_hidden_size": WIDTH, "fullatt_block_indexes": [0], "window_size": 28},
        )  # fmt: skip
        transformer = QwenImageTransformer2DModel(patch_size=2, in_channels=16, out_channels=4, num_layers=1,
                                                  attention_head_dim=16, num_attention_heads=2,
                                                  joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6))  # fmt: skip
        vae = AutoencoderKLQwenImage(base_dim=4, z_dim=4, dim_mult=[1, 1], num_res_blocks=1,
                                     temperal_downsample=[False], latents_mean=[0.0] * 4,
                                     latents_std=[1.0] * 4)  # fmt: skip
        text_encoder = lively(Qwen2_5_VLForConditionalGeneration(config))
        scheduler = flow_scheduler(use_dynamic_shifting=True)
        pipe = QwenImagePipeline(scheduler, vae, text_encoder, tokenizer, transformer)
    return quiet(pipe)


def z_image(seed: int = 0) -> ZImagePipeline:
    tokenizer = qwen_tokenizer()
    with seeded(seed):
        text_encoder = Qwen3Model(Qwen3Config(**_decoder(tokenizer, WIDTH, layers=3)))
        transformer = ZImageTransformer2DModel(in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2,
                                               n_kv_heads=2, cap_feat_dim=WIDTH, axes_dims=[4, 6, 6],
                                               axes_lens=[256, 32, 32])  # fmt: skip
        pipe = ZImagePipeline(
            flow_scheduler(), image_autoencoder(shift_factor=0.1), lively(text_encoder), tokenizer, transformer
        )
    return quiet(pipe)


def flux2(seed: int = 0) -> Flux2Pipeline:
    """With 32 layers: the pipeline reads what comes out of the 10th, 20th and 30th."""
    processor = mistral_processor()
    with seeded(seed):
        config = Mistral3Config(
            text_config={"model_type": "mistral", **_decoder(processor.tokenizer, FLUX2_WIDTH, layers=32)},
            vision_config={"model_type": "pixtral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                           "num_attention_heads": 1, "image_size": 28, "patch_size": 14},
            image_token_index=processor.tokenizer.convert_tokens_to_ids("[IMG]"),
        )  # fmt: skip
        text_encoder = lively(Mistral3ForConditionalGeneration(config))
        pipe = Flux2Pipeline(flow_scheduler(use_dynamic_shifting=True), _flux2_autoencoder(), text_encoder, processor,
                             _flux2_transformer(guidance_embeds=True))  # fmt: skip
    return quiet(pipe)


def flux2_klein(seed: int = 0) -> Flux2KleinPipeline:
    """With 29 layers: the pipeline reads what comes out of the 9th, 18th and 27th."""
    tokenizer = qwen_tokenizer()
    with seeded(seed):
        text_encoder = lively(Qwen3ForCausalLM(Qwen3Config(**_decoder(tokenizer, FLUX2_WIDTH, layers=29))))
        pipe = Flux2KleinPipeline(flow_scheduler(use_dynamic_shifting=True), _flux2_autoencoder(), text_encoder,
                                  tokenizer, _flux2_transformer(guidance_embeds=False))  # fmt: skip
    return quiet(pipe)


def _decoder(tokenizer: PreTrainedTokenizerBase, width: int, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _flux2_autoencoder() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                              block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
                              sample_size=8)  # fmt: skip


def _flux2_transformer(guidance_embeds: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                                   num_attention_heads=2, joint_attention_dim=3 * FLUX2_WIDTH,
                                   timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
                                   guidance_embeds=guidance_embeds)  # fmt: skip
