"""AudioLDM 2: CLAP and T5, both also through a GPT-2 that writes further vectors for the denoiser."""

from __future__ import annotations

from diffusers import (
    AudioLDM2Pipeline,
    AudioLDM2ProjectionModel,
    AudioLDM2UNet2DConditionModel,
    AutoencoderKL,
    DDIMScheduler,
)
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

from tests.pipelines.parts import lively, quiet, seeded, t5_encoder
from tests.pipelines.tokenizers import roberta_tokenizer, t5_tokenizer

T5_WIDTH, GPT2_WIDTH, CLAP_PROJECTION = 24, 16, 20


def audioldm2(seed: int = 0) -> AudioLDM2Pipeline:
    tokenizer, tokenizer_2 = roberta_tokenizer(), t5_tokenizer(positions=32)
    with seeded(seed):
        clap = ClapConfig(
            text_config=ClapTextConfig(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=40, projection_dim=CLAP_PROJECTION,
            ).to_dict(),
            audio_config=ClapAudioConfig(
                spec_size=8, num_mel_bins=4, window_size=4, hidden_size=16, patch_size=2, patch_stride=2,
                depths=[1, 1], num_attention_heads=[2, 2], num_hidden_layers=2, patch_embeds_hidden_size=8,
                projection_dim=CLAP_PROJECTION,
            ).to_dict(),
            projection_dim=CLAP_PROJECTION,
        )  # fmt: skip
        projection = AudioLDM2ProjectionModel(CLAP_PROJECTION, T5_WIDTH, GPT2_WIDTH)
        writer = GPT2LMHeadModel(GPT2Config(n_embd=GPT2_WIDTH, n_layer=2, n_head=2, vocab_size=16, n_positions=128,
                                            bos_token_id=0, eos_token_id=0))  # fmt: skip
        writer.config.max_new_tokens = 8
        unet = AudioLDM2UNet2DConditionModel(
            sample_size=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(8, 8), layers_per_block=1,
            cross_attention_dim=((None, GPT2_WIDTH, T5_WIDTH),) * 2, attention_head_dim=2, norm_num_groups=4,
        )  # fmt: skip
        vae = AutoencoderKL(in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 2,
                            up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 8), latent_channels=4,
                            norm_num_groups=4)  # fmt: skip
        vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(
            model_in_dim=8, sampling_rate=16000, upsample_initial_channel=8, upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
            normalize_before=False,
        ))  # fmt: skip
        pipe = AudioLDM2Pipeline(
            vae, lively(ClapModel(clap)), t5_encoder(tokenizer_2, T5_WIDTH), projection, writer, tokenizer, tokenizer_2,
            ClapFeatureExtractor(feature_size=4), unet, DDIMScheduler(steps_offset=1, clip_sample=False), vocoder,
        )  # fmt: skip
    return quiet(pipe)
