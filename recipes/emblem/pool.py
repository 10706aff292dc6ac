"""Step 5a: what the UNet trains on, computed once: latents of pictures and embeddings of captions (bfloat16)."""

from __future__ import annotations

import argparse
from random import Random

import torch
from diffusers import AutoencoderKL
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .examples import Example, ExampleSource
from .paths import AUTOENCODER, TEXT_ENCODER, UNET
from .render import Renderer

CAPTIONS = 160_000


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, source: ExampleSource, layouts: list[Example]) -> Tensor:
    """Scaled latent means [n, channels, 8, 8]."""
    out = []
    for i in track(range(0, len(layouts), 128), "latents"):
        x = source.pictures(layouts[i : i + 128]) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        out.append((mean.float() * vae.config.scaling_factor).bfloat16().contiguous())
    return torch.cat(out)


@torch.no_grad()
def encode_captions(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Embeddings [n, positions, width], padded as StableDiffusionPipeline pads."""
    out = []
    for i in track(range(0, len(texts), 256), "captions"):
        tokens = tokenizer(texts[i : i + 256], padding="max_length", truncation=True, return_tensors="pt").input_ids
        out.append(encoder(tokens).last_hidden_state.bfloat16().contiguous())
    return torch.cat(out)


def draw_examples(source: ExampleSource) -> tuple[list[Example], list[Example], Tensor]:
    """(one example per caption, different pictures among them, index of each caption's picture)."""
    rng = Random("pool")
    drawn = [source.draw(rng) for _ in range(CAPTIONS)]
    layouts: dict[tuple[int, int | None, int], int] = {}
    index = [layouts.setdefault((e.left, e.right, e.background), len(layouts)) for e in drawn]
    return drawn, [Example(*key) for key in layouts], torch.tensor(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("pictures", "captions"), help="one half; they can run side by side")
    args = parser.parse_args()
    torch.manual_seed(0)
    source = ExampleSource(Renderer())
    drawn, pictures, index = draw_examples(source)
    UNET.mkdir(parents=True, exist_ok=True)
    if args.only != "captions":
        vae = AutoencoderKL.from_pretrained(AUTOENCODER).to(memory_format=torch.channels_last).eval()
        save_file({"latents": encode_pictures(vae, source, pictures), "index": index}, UNET / "pictures.safetensors")
        print(f"{len(pictures)} pictures")
    if args.only != "pictures":
        tokenizer = CLIPTokenizer.from_pretrained(TEXT_ENCODER / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(TEXT_ENCODER / "model").eval()
        texts = encode_captions(encoder, tokenizer, [e.caption for e in drawn])
        null = encode_captions(encoder, tokenizer, [""])
        save_file({"captions": texts, "null": null}, UNET / "captions.safetensors")
        print(f"{len(drawn)} captions")


def load() -> dict[str, Tensor]:
    return load_file(UNET / "pictures.safetensors") | load_file(UNET / "captions.safetensors")


if __name__ == "__main__":
    main()
