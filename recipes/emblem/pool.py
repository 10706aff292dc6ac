"""Step 5a: what the UNet trains on, computed once: latents of pictures and embeddings of captions (bfloat16).

Each file names what it was made from, and is made again only when that has changed.
"""

from __future__ import annotations

import argparse
import hashlib
from random import Random
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from snce.storage import read_metadata, replacing
from snce.text.fingerprint import weights_fingerprint

from .examples import Example, ExampleSource
from .paths import AUTOENCODER, TEXT_ENCODER, UNET
from .render import Renderer

if TYPE_CHECKING:
    from pathlib import Path

CAPTIONS = 160_000
PAIR_SHARE = 0.5  # more than elsewhere: two small objects are harder to draw than one
STYLE_NAMED = 0.9  # an unnamed style teaches the average of nine
PICTURES_FILE = UNET / "pictures.safetensors"
CAPTIONS_FILE = UNET / "captions.safetensors"


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


def digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part)
    return whole.hexdigest()[:16]


def is_made(path: Path, stamp: str) -> bool:
    return path.exists() and read_metadata(path).get("made_from") == stamp


def write(path: Path, tensors: dict[str, Tensor], stamp: str) -> None:
    with replacing(path) as temporary:  # gigabytes: not through memory once more
        save_file(tensors, temporary, {"made_from": stamp})


def make_pictures(source: ExampleSource, layouts: list[Example], index: Tensor) -> None:
    vae = AutoencoderKL.from_pretrained(AUTOENCODER).to(memory_format=torch.channels_last).eval()
    icons = source.renderer.rgba.numpy().tobytes()
    stamp = digest(weights_fingerprint(vae), str(vae.config.scaling_factor), icons, repr(layouts))
    if not is_made(PICTURES_FILE, stamp):
        write(PICTURES_FILE, {"latents": encode_pictures(vae, source, layouts), "index": index}, stamp)
    print(f"{len(layouts)} pictures")


def make_captions(texts: list[str]) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(TEXT_ENCODER / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(TEXT_ENCODER / "model").eval()
    words = (TEXT_ENCODER / "tokenizer" / "tokenizer.json").read_bytes()
    stamp = digest(weights_fingerprint(encoder), words, *texts)
    if not is_made(CAPTIONS_FILE, stamp):
        embeddings = encode_captions(encoder, tokenizer, texts)
        write(CAPTIONS_FILE, {"captions": embeddings, "null": encode_captions(encoder, tokenizer, [""])}, stamp)
    print(f"{len(texts)} captions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("pictures", "captions"), help="one half; they can run side by side")
    args = parser.parse_args()
    torch.manual_seed(0)
    source = ExampleSource(Renderer(), PAIR_SHARE, STYLE_NAMED)
    drawn, layouts, index = draw_examples(source)
    if args.only != "captions":
        make_pictures(source, layouts, index)
    if args.only != "pictures":
        make_captions([e.caption for e in drawn])


def load() -> dict[str, Tensor]:
    return load_file(PICTURES_FILE) | load_file(CAPTIONS_FILE)


if __name__ == "__main__":
    main()
