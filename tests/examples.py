"""Real objects of toy size that tests are made of: neurons, embeddings, autoencoders, a Stable Diffusion pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from snce.erase.edit import Neurons
from snce.erase.eraser import ConceptEraser
from snce.sae.model import SparseAutoencoder
from snce.text.harvest import Embeddings
from snce.text.positions import BEGIN, END, PADDING, WORD

if TYPE_CHECKING:
    from snce.sae.config import SAEConfig
    from snce.text.towers import TextTower

FINGERPRINT = "0123456789abcdef"
_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


def bits(x: Tensor) -> Tensor:
    """The bit pattern of each number: tells 0.0 from -0.0, and NaN is equal to itself."""
    return x.contiguous().view(_BITS[x.element_size()]) if x.is_floating_point() else x


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def touched(x: Tensor, edited: Tensor) -> Tensor:
    """Positions at which the edit changed any bit, bool [b, positions]."""
    return (bits(x) != bits(edited)).any(-1)


def random_kinds(seed: int, n: int, positions: int) -> Tensor:
    """Begin, 1 to positions - 2 words, end, padding."""
    rng = torch.Generator().manual_seed(seed)
    words = torch.randint(1, positions - 1, (n, 1), generator=rng)
    place = torch.arange(positions).expand(n, -1)
    kinds = torch.full((n, positions), PADDING, dtype=torch.uint8)
    kinds[place <= words] = WORD
    kinds[place == words + 1] = END
    kinds[place == 0] = BEGIN
    return kinds


def random_embeddings(seed: int, n: int = 4, positions: int = 7, d: int = 8, dtype=torch.float32) -> Embeddings:
    """Gaussian."""
    x = torch.randn(n, positions, d, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return Embeddings(x.to(dtype), random_kinds(seed, n, positions))


def random_neurons(seed: int, n: int = 2, d: int = 8, whole_prompt: bool | None = None) -> Neurons:
    """Float32; thresholds at which about every second prompt fires; `whole_prompt` None mixes both gates. Those
    of whole prompts are levelled."""
    rng = torch.Generator().manual_seed(seed)
    gate = torch.arange(n) % 2 == 0 if whole_prompt is None else torch.full((n,), whole_prompt)
    return Neurons(
        encoder=torch.randn(n, d, generator=rng) / d**0.5,
        bias=0.1 * torch.randn(n, generator=rng),
        threshold=0.5 + torch.rand(n, generator=rng),
        decoder=torch.randn(n, d, generator=rng) / d**0.5,
        strength=0.5 + torch.rand(n, generator=rng),
        whole_prompt=gate,
        level=torch.where(gate, 0.5 + torch.rand(n, generator=rng), 0.0),
    )


def random_eraser(seed: int, concept: str = "cigarette", n: int = 2, d: int = 8) -> ConceptEraser:
    neurons = random_neurons(seed, n, d)
    return ConceptEraser(neurons, (concept,) * n, FINGERPRINT, card={concept: {"seed": seed}})


def random_sae(seed: int, config: SAEConfig) -> SparseAutoencoder:
    """Weights, biases and scales all away from their initial values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sae = SparseAutoencoder(config)
        with torch.no_grad():
            sae.W_enc += 0.3 * torch.randn_like(sae.W_enc)
            sae.b_enc.normal_(std=0.2)
            sae.b_dec.normal_(std=0.3)
            sae.scale.uniform_(0.5, 2.0)
    return sae.eval().requires_grad_(False)


def tiny_pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """A Stable Diffusion pipeline with random weights: 16 token positions of width 32, pictures of 8 x 8 pixels."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{c}</w>" for c in alphabet), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], model_max_length=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = CLIPTextConfig(vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                num_attention_heads=2, max_position_embeddings=16, bos_token_id=len(tokens) - 2,
                                eos_token_id=len(tokens) - 1, pad_token_id=len(tokens) - 1)  # fmt: skip
        text_encoder = CLIPTextModel(config)
        for module in text_encoder.modules():  # the usual initial weights are so small that prompts hardly differ
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.3)
        unet = UNet2DConditionModel(sample_size=4, down_block_types=("CrossAttnDownBlock2D",),
                                    up_block_types=("CrossAttnUpBlock2D",), block_out_channels=(16,),
                                    layers_per_block=1, cross_attention_dim=32, attention_head_dim=2,
                                    norm_num_groups=8)  # fmt: skip
        vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                            block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=8)  # fmt: skip
    scheduler = DDIMScheduler(steps_offset=1, clip_sample=False)
    pipe = StableDiffusionPipeline(
        vae.eval(), text_encoder.eval(), tokenizer, unet.eval(), scheduler, None, None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe: StableDiffusionPipeline, prompt: str | list[str] | None, seed: int = 0, **options) -> bytes:
    """Every bit of the pictures, as floats."""
    rng = torch.Generator().manual_seed(seed)
    result = pipe(prompt, num_inference_steps=2, generator=rng, output_type="np", **options)
    return result.images.tobytes()


PROMPTS = ("a red cat", "a pistol", "two dogs", "green tea", "a hat", "blue sky", "an owl", "rain")


def eraser_for(tower: TextTower, seed: int, prompts=PROMPTS) -> tuple[ConceptEraser, list[str], list[str]]:
    """A random eraser whose threshold lies in the middle: it fires on the second return value, not on the third."""
    neurons = random_neurons(seed, n=1, d=tower.width, whole_prompt=seed % 2 == 0)
    eraser = ConceptEraser(neurons, (f"concept {seed}",), tower.fingerprint, tower.name, tower.path, tower.pipeline)
    heights = eraser.activations(list(prompts), tower)[:, 0]
    ranked = heights.sort().values
    bar = (ranked[len(ranked) // 2] + ranked[len(ranked) // 2 - 1]) / 2
    assert bar > 0
    assert ranked[0] < bar < ranked[-1]
    eraser = replace(eraser, neurons=neurons._replace(threshold=bar[None]))
    loud = [p for p, h in zip(prompts, heights, strict=True) if h > bar]
    return eraser, loud, [p for p in prompts if p not in loud]


@torch.no_grad()
def encode(pipe, prompt, negative=None, **options):
    """What `pipe` gives to its denoiser: embeddings of the prompt and of the negative prompt."""
    guided = negative is not None
    return pipe.encode_prompt(prompt, "cpu", 1, guided, negative_prompt=negative, **options)


def state(pipe):
    """All that attaching may touch: attributes of the pipeline and the hooks of every module."""
    hooks = {
        (name, part, key): (dict(value) if isinstance(value, dict) else value)
        for part in ("text_encoder", "unet", "vae")
        for name, module in getattr(pipe, part).named_modules()
        for key, value in vars(module).items()
        if "hook" in key or key == "forward"
    }
    return dict(vars(pipe)), hooks
