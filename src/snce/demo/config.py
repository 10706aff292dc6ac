"""The options of `snce demo`. Nothing heavy is imported here: `--help` must be quick."""

from dataclasses import dataclass
from pathlib import Path


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
    rule: str = "modulated"
    """Rule that chooses the neuron."""
    captions: int = 10_000
    """Captions that the sparse autoencoder is trained on."""
    seed: int = 0
    """Seed of the training."""
    workers: int = 1
    """Processes that judge the concepts of a table; one per core is best."""
