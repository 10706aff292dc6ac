"""Text encoders, autoencoders and schedulers that several families share, all with random weights."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import DiffusionPipeline
    from transformers import PreTrainedTokenizerBase

Module = TypeVar("Module", bound=nn.Module)
Pipeline = TypeVar("Pipeline", bound="DiffusionPipeline")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights drawn inside follow from the seed; the generator outside is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def lively(encoder: Module, std: float = 0.3) -> Module:
    """The usual initial weights are so small that prompts hardly differ: draw larger ones."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
    return encoder.eval().requires_grad_(False)


def quiet(pipe: Pipeline) -> Pipeline:
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    return pipe


def clip_encoder(
    tokenizer: PreTrainedTokenizerBase, width: int = 32, layers: int = 3, projection: int | None = None, **config: Any
) -> Any:
    """A `CLIPTextModel`; with `projection`, the class that ends in a projection of the pooled output to that width."""
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "max_position_embeddings": tokenizer.model_max_length,
        "projection_dim": projection or width,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | config
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return lively(kind(CLIPTextConfig(**config)))


def t5_encoder(tokenizer: PreTrainedTokenizerBase, width: int = 32, layers: int = 2) -> T5EncoderModel:
    """As T5 v1.1: gated GELU."""
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=width // 2, d_ff=2 * width, num_layers=layers,
                      num_heads=2, feed_forward_proj="gated-gelu", pad_token_id=tokenizer.pad_token_id,
                      eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    return lively(T5EncoderModel(config))


def image_autoencoder(latent_channels: int = 4, **config: Any) -> AutoencoderKL:
    """Halves each side of a picture."""
    return AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                         block_out_channels=(8, 8), latent_channels=latent_channels, norm_num_groups=4, sample_size=8,
                         **config)  # fmt: skip


def flow_scheduler(**config: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0, **config)
