"""What the tests of the command line run on: a tiny model in a folder, prompts, a concept, an SAE, an eraser."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
import yaml

from snce.cli import main
from tests.examples import tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path

ADJECTIVES = ("red", "blue", "big", "old")
NOUNS = ("cat", "dog", "hat", "car")
NEUTRALS = [f"{a} {n}" for a in ADJECTIVES for n in NOUNS]
TARGETS = [f"zzz {a} {n}" for a in ADJECTIVES[:3] for n in NOUNS]
SMALL = ("--latents", "48", "--k", "8", "--batch", "16")


class Studio(NamedTuple):
    """Files that the tests read, and never write."""

    model: str
    other_model: str
    prompts: Path
    concept: Path
    sae: Path
    eraser: Path


@pytest.fixture(scope="session")
def studio(tmp_path_factory) -> Studio:
    folder = tmp_path_factory.mktemp("studio")
    for seed, name in enumerate(("model", "other")):
        pipe = tiny_pipeline(seed)
        with torch.no_grad():  # a random encoder writes end-of-text no louder than words; a trained one does
            pipe.text_encoder.get_input_embeddings().weight[-1] *= 6
        pipe.save_pretrained(folder / name)
    it = Studio(
        str(folder / "model"), str(folder / "other"), folder / "prompts.txt", folder / "gun.yaml",
        folder / "run", folder / "gun.safetensors",
    )  # fmt: skip
    it.prompts.write_text("\n".join([f"{p} {c}" for p in NEUTRALS + TARGETS for c in "abcd"]))
    it.concept.write_text(yaml.safe_dump({"name": "gun", "targets": TARGETS, "neutrals": NEUTRALS}))
    assert main(train(it, it.sae)) == 0
    assert main(find(it, it.eraser)) == 0
    return it


def train(it: Studio, out: Path, *more: str, prompts: str | None = None) -> list[str]:
    source = str(it.prompts) if prompts is None else prompts
    return ["train", it.model, "--prompts", source, "--out", str(out), *SMALL, "--steps", "60", *more]


def find(it: Studio, out: Path, *more: str, model: str | None = None, concept: str | None = None) -> list[str]:
    chosen = concept or str(it.concept)
    return ["find", model or it.model, "--sae", str(it.sae), "--concept", chosen, "--out", str(out), *more]


def generate(it: Studio, out: Path, *prompts: str, erasers: tuple[Path, ...] = (), model: str = "") -> list[str]:
    texts = [word for prompt in prompts for word in ("--prompt", prompt)]
    files = [word for file in erasers for word in ("--eraser", str(file))]
    return ["generate", model or it.model, *texts, *files, "--out", str(out), "--steps", "2"]


def generate_all(it: Studio, out: Path) -> list[str]:
    """A folder of pictures, one for each of the prompts."""
    drawn = ["generate", it.model, "--prompts", str(it.prompts), "--eraser", str(it.eraser)]
    return [*drawn, "--out", str(out), "--steps", "2"]


def small_bench(out: Path) -> list[str]:
    """Two methods on one concept."""
    return ["bench", "--out", str(out), "--methods", "UCE, SNCE", "--concepts", "bomb", "--sets", "1", "--no-tune"]
