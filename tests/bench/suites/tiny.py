"""What the tests of the suites run on: a tiny CLIP, a tiny classifier, a feature extractor, prompt files."""

from __future__ import annotations

import csv
import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    ConvNextImageProcessorPil,
    ResNetConfig,
    ResNetForImageClassification,
)

from snce.bench.rows import read_rows
from snce.bench.suites.run import run_suite
from tests.examples import tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from snce.bench.suites.config import SuiteConfig

CLASSES = {0: "cat, kitty", 1: "dog", 2: "hat, headgear", 3: "tabby", 4: "church, church building"}
PROMPTS = ("a red cat", "a pistol", "two dogs", "green tea", "a hat")
NAMES = ("cat", "dog", "hat", "tabby", "church")
METHODS = ("none", "negative prompt", "UCE", "SNCE")


def tiny_clip(folder: Path) -> str:
    """Random weights, 16 token positions, pictures of 32 x 32 pixels."""
    tokenizer = tiny_pipeline().tokenizer
    n = len(tokenizer)
    text: dict[str, Any] = {"vocab_size": n, "max_position_embeddings": 16, "bos_token_id": n - 2,
                            "eos_token_id": n - 1, "pad_token_id": n - 1}  # fmt: skip
    both = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vision = {**both, "image_size": 32, "patch_size": 8}
        model = CLIPModel(CLIPConfig(text_config={**both, **text}, vision_config=vision, projection_dim=8))
        for module in model.modules():  # the usual initial weights are so small that all pictures look alike
            if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
                nn.init.normal_(module.weight, std=0.3)
    model.save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side), tokenizer).save_pretrained(folder)
    return str(folder)


def tiny_classifier(folder: Path, classes: dict[int, str] = CLASSES) -> str:
    """A ResNet of random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic",
                              id2label=classes, label2id={v: k for k, v in classes.items()})  # fmt: skip
        model = ResNetForImageClassification(config)
        nn.init.normal_(model.classifier[1].weight, std=2.0)
    model.save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.875).save_pretrained(folder)
    return str(folder)


class Corners(nn.Module):
    """Features in the place of Inception's: six pixels of the picture."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        return images[:, :, 0, :2].flatten(1).float() / 255


def write_csv(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def i2p_rows(prompts=PROMPTS) -> list[dict[str, Any]]:
    """Harmless prompts with the columns of I2P. Scales of guidance differ, as there."""
    return [
        {"": i, "prompt": p, "categories": "sexual, shocking" if i % 2 else "violence", "nudity_percentage": 10.0 * i,
         "sd_seed": 1000 + i, "sd_guidance_scale": 7.0 if i % 3 else 3.5, "evaluation_seed": 50 + i}
        for i, p in enumerate(prompts)
    ]  # fmt: skip


def drawn_face(side: int = 64) -> Image.Image:
    """A face that NudeNet takes for one: its harmless class FACE_FEMALE."""
    image = Image.new("RGB", (320, 320), (40, 90, 60))
    pen, skin = ImageDraw.Draw(image), (229, 182, 150)
    pen.ellipse((80, 20, 240, 110), fill=(60, 35, 20))
    pen.ellipse((90, 70, 230, 250), fill=skin)
    for x in (130, 190):
        pen.ellipse((x - 14, 120, x + 14, 138), fill="white")
        pen.ellipse((x - 6, 123, x + 6, 135), fill=(50, 30, 20))
        pen.arc((x - 18, 100, x + 18, 130), 200, 340, fill=(60, 35, 20), width=4)
    pen.line((160, 135, 155, 175, 165, 178), fill=(180, 120, 100), width=4)
    pen.chord((130, 190, 190, 220), 0, 180, fill=(170, 50, 60))
    pen.rectangle((135, 235, 185, 320), fill=skin)
    return image.resize((side, side))


def noise(seed: int, side: int = 8) -> Image.Image:
    rng = torch.Generator().manual_seed(seed)
    return Image.fromarray(torch.randint(0, 256, (side, side, 3), generator=rng, dtype=torch.uint8).numpy())


def run(config: SuiteConfig, **options: Any) -> str:
    """What the run prints."""
    console = Console(file=StringIO(), width=500)
    run_suite(config, console, **options)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def results(config: SuiteConfig):
    columns, _ = read_rows([config.out / "results.parquet"])
    return columns, json.loads((config.out / "summary.json").read_text())["methods"]


def rows_of(columns, method: str):
    return {name: column[columns["method"] == method] for name, column in columns.items()}


def same(a, b) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[n], b[n], equal_nan=a[n].dtype.kind == "f") for n in a)


def without(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """As if `library` were not installed."""
    import sys

    for name in [n for n in sys.modules if n == library or n.startswith(library + ".")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
