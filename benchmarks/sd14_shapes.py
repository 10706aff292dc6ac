"""Models of the shape of Stable Diffusion 1.4's, with random weights, for measurements of time and memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import StableDiffusionPipeline


def make_model(folder: Path, captions: list[str]) -> None:
    make_pipeline(captions).save_pretrained(folder)


def make_pipeline(captions: list[str]) -> StableDiffusionPipeline:
    """A pipeline whose text side has the shape of Stable Diffusion 1.4, and whose pictures have not."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = clip_tokenizer(captions)
    special: dict[str, Any] = {"bos_token_id": 49_406, "eos_token_id": 49_407, "pad_token_id": 49_407}
    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=49_408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=77, hidden_act="quick_gelu", **special,
    ))  # fmt: skip
    unet = UNet2DConditionModel(sample_size=4, down_block_types=("CrossAttnDownBlock2D",),
                                up_block_types=("CrossAttnUpBlock2D",), block_out_channels=(16,),
                                layers_per_block=1, cross_attention_dim=768, attention_head_dim=2,
                                norm_num_groups=8)  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    scheduler = DDIMScheduler(steps_offset=1, clip_sample=False)
    parts: Any = (vae, text_encoder, tokenizer, unet, scheduler, None, None)
    return StableDiffusionPipeline(*parts, requires_safety_checker=False)


def clip_tokenizer(captions: list[str]) -> Any:
    """49,408 tokens: bytes, what byte-pair encoding learns on the captions, and as many unused ones as are lacking."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bpe = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    words = pre_tokenizers.Whitespace()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=48_000, initial_alphabet=alphabet, end_of_word_suffix="</w>",
                                  show_progress=False)  # fmt: skip
    bpe.train_from_iterator((text.lower() for text in captions), trainer)
    learned = json.loads(bpe.to_str())["model"]
    vocab = dict(sorted(learned["vocab"].items(), key=lambda item: item[1]))
    for character in alphabet:
        vocab.setdefault(f"{character}</w>", len(vocab))
    for i in range(49_406 - len(vocab)):
        vocab[f"<|unused {i}|>"] = len(vocab)
    vocab |= {"<|startoftext|>": 49_406, "<|endoftext|>": 49_407}
    merges: Any = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    assert len(vocab) == 49_408
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def parts_of_sd14() -> dict[str, int]:
    """Bytes of the parts of Stable Diffusion 1.4 in float32, counted from their shapes."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel

    vision: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                              "num_attention_heads": 16, "patch_size": 14}  # fmt: skip
    text: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    sides: Any = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    channels: Any = (128, 256, 512, 512)
    with torch.device("meta"):
        parts = {
            "UNet": UNet2DConditionModel(cross_attention_dim=768),
            "autoencoder": AutoencoderKL(down_block_types=sides[0], up_block_types=sides[1], layers_per_block=2,
                                         block_out_channels=channels),
            "text encoder": CLIPTextModel(CLIPTextConfig(**text)),
            "safety checker": StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=768)),
        }  # fmt: skip
    return {name: 4 * sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
