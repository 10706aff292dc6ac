"""The options of `snce demo`. Nothing heavy is imported here: `--help` must be quick."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from snce.errors import SnceError


@dataclass(frozen=True)
class DemoConfig:
    """Erase a concept from Emblem, the embedded model, and show what changed and what did not.

    Trains a sparse autoencoder on the text encoder's embeddings, finds the one neuron of the concept, switches it off,
    draws the same prompts with the same seeds before and after, and lets the judge say what it sees.
    Writes DIR/grid.png, DIR/report.json and DIR/CONCEPT.safetensors (the eraser).
    """

    concept: str = "cigarette"
    """An object or a style that Emblem draws (`snce concepts` lists them)."""
    concepts: str | None = None
    """Several, for a table in place of the picture (DIR/summary.md and concepts.md): "all" or "harmful" (but those that
    chose the settings), or names with commas between them."""
    out: Path = Path("demo")
    """Folder for what it writes."""
    strength: float = 1.25
    """1 takes out what the neuron stands for, more goes past zero, 0 leaves everything as it is."""
    rule: Literal["modulated", "frequency", "difference", "saeuron", "itd", "auroc"] = "modulated"
    """Score by which the neuron is chosen: see `snce.neurons.scores`."""
    captions: int = 10_000
    """Captions that the sparse autoencoder is trained on."""
    seed: int = 0
    """Seed of the training."""
    workers: int = 1
    """Processes that judge the concepts of a table; one per core is best."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense. Not in `__post_init__`: the parser would frame the message."""
        for name in ("captions", "workers"):
            if getattr(self, name) < 1:
                raise SnceError(f"--{name} {getattr(self, name)} must be at least 1")
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise SnceError(f"--strength {self.strength} must be a number that is not negative")
