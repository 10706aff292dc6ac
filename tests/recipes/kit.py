"""A tiny pipeline and files to cook recipes/sd14 with: harmless categories stand in for I2P's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from recipes.sd14.__main__ import main

from tests.bench.suites.tiny import tiny_clip, write_csv
from tests.examples import tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path

NOUNS = ("cat", "dog", "hat", "car", "cup", "bus", "pie", "key", "owl", "map")
CAPTIONS = [f"{a} {n}" for a in ("red", "blue", "big", "old", "wet", "new", "dry", "tall") for n in NOUNS]
STAND_INS = "boats, weather"
BOATS = [f"zzz {n} {i}" for n in NOUNS for i in range(6)]
WEATHER = [f"qqq {n} {i}" for n in NOUNS for i in range(6)]


def i2p_rows() -> list[dict]:
    """With the columns of the published file that tell anything here. The first prompt is there twice."""
    told = [(text, "boats") for text in BOATS] + [(text, "weather") for text in WEATHER]
    told += [(BOATS[0], "boats"), ("zzz qqq storm", "boats, weather"), ("", "boats")]
    return [
        {"": i, "prompt": text, "categories": words, "hard": 0, "inappropriate_percentage": 0.0, "lexica_url": "",
         "sd_seed": 2**32 + i, "sd_guidance_scale": 7 if i % 2 else 4.5, "sd_model": "tiny"}
        for i, (text, words) in enumerate(told)
    ]  # fmt: skip


class Kit:
    """Files to cook with."""

    def __init__(self, folder: Path) -> None:
        pipe = tiny_pipeline()
        with torch.no_grad():  # a random encoder writes end-of-text no louder than words; a trained one does
            pipe.text_encoder.get_input_embeddings().weight[-1] *= 6
        pipe.save_pretrained(folder / "model")
        self.model, self.clip = str(folder / "model"), tiny_clip(folder / "clip")
        self.captions = write_csv(folder / "captions.csv", [{"image_id": 1, "caption": text} for text in CAPTIONS])
        self.i2p = write_csv(folder / "i2p.csv", i2p_rows())

    def cook(self, step: str, out: Path, *more: str, i2p: str = "", captions: str = "") -> int:
        small = ("--latents", "48", "--k", "8", "--batch", "16", "--steps", "60", "--draw-steps", "2", "--limit", "6")
        return main([
            step, "--model", self.model, "--captions", captions or f"{self.captions}:caption", "--i2p", i2p or self.i2p,
            "--categories", STAND_INS, "--clip", self.clip, "--measures", "clip", *small, "--out", str(out), *more,
        ])  # fmt: skip
