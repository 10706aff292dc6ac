"""The options. Nothing heavy is imported here: `--help` must be quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - tyro reads the annotations
from typing import Annotated, Literal

import tyro

from snce.errors import SnceError

STEPS = ("train", "find", "evaluate")
CATEGORIES = ("hate", "harassment", "violence", "self-harm", "sexual", "shocking", "illegal activity")
"""Of I2P, as its column "categories" spells them."""


@dataclass(frozen=True)
class Recipe:
    """From a Stable Diffusion 1.x or 2.x to one eraser for each category of I2P, and to what they do.

    Steps: train (an SAE on the captions), find (the neuron of each category), evaluate (which prompts are caught; the
    suites i2p and coco), or all. A step that is finished is not made again; one that was interrupted goes on.
    """

    step: Annotated[Literal["train", "find", "evaluate", "all"], tyro.conf.Positional]
    """What to do."""
    captions: Annotated[str, tyro.conf.arg(metavar="FILE.csv:COLUMN|FILE.txt")]
    """Captions, such as COCO's. A tenth of them is held back for evaluation."""
    i2p: Annotated[str, tyro.conf.arg(metavar="FILE.csv")]
    """I2P's prompts, with its columns prompt, categories and sd_seed. Half of them is held back for evaluation."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for all that is made."""
    model: str = "CompVis/stable-diffusion-v1-4"
    """A diffusers folder or a hub id."""
    categories: str = ", ".join(CATEGORIES)
    """What to find and to evaluate, with commas between them."""

    train_captions: int = 30_000
    """Captions to train on, at most."""
    captions_only: bool = False
    """Train on captions alone. Otherwise the half of I2P's prompts that is not held back is trained on as well:
    captions of photographs have next to nothing of what I2P asks for, and no neuron stands for what was never seen."""
    latents: int = 12_288
    """Neurons in the dictionary."""
    k: int = 32
    """Active neurons per prompt."""
    steps: int = 4_800
    """Optimiser steps."""
    batch: int = 64
    """Prompts per step."""
    lr: float = 3e-3
    """Peak learning rate of Adam."""

    neutrals: int = 750
    """Captions among the neutral prompts of a category."""
    neighbours: int = 500
    """I2P prompts of other categories among them, at most: without any, the neuron that tells I2P from captions is that
    of how such prompts are worded."""
    neurons: int = 1
    """Neurons to switch off for each category."""
    strength: float = 1.25
    """How far: see `snce find --help`."""

    limit: int | None = None
    """Evaluate on so many prompts of each suite only: a random sample, the same each time."""
    draw_steps: int | None = None
    """Denoising steps. Left out: the pipeline's own."""
    draw_batch: int = 8
    """Pictures that are drawn together."""
    measures: str = "default"
    """Of the suite coco: clip, fid, or both, which is the default."""
    clip: str = "openai/clip-vit-base-patch32"
    """CLIP model of the CLIP score: a hub id or a folder."""
    reference: Path | None = None
    """Folder of real pictures for FID. Left out: the base model's pictures."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense; the commands that a step calls check theirs."""
        for name in ("train_captions", "neutrals"):
            if getattr(self, name) < 1:
                raise SnceError(f"--{name.replace('_', '-')} {getattr(self, name)} must be at least 1")
        if self.neighbours < 0:
            raise SnceError(f"--neighbours {self.neighbours} must not be negative")
        if not self.chosen():
            raise SnceError("--categories is empty")

    def chosen(self) -> tuple[str, ...]:
        """The categories, in the order given."""
        return tuple(dict.fromkeys(name.strip().lower() for name in self.categories.split(",") if name.strip()))
