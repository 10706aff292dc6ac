"""The prompts of a training, and where its folder keeps what: shared by the commands that harvest and train."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from snce.commands.console import stderr
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.text.towers import TextTower


class Corpus(Protocol):
    """Options that say which prompts an SAE is trained on."""

    @property
    def model(self) -> str: ...
    @property
    def prompts(self) -> str | None: ...
    @property
    def captions(self) -> int: ...
    @property
    def seed(self) -> int: ...


def training_prompts(options: Corpus) -> list[str]:
    """The prompts in a random order, each once.

    Raises:
        SnceError: none were given, or fewer than four different ones.
    """
    from random import Random

    from snce.pipelines import EMBLEM
    from snce.text.prompts import read_prompts

    if options.prompts is not None:
        prompts = read_prompts(options.prompts)
    elif options.model == EMBLEM:
        from snce.emblem.corpus import captions_for_training

        prompts = captions_for_training(options.captions, options.seed)
    else:
        raise SnceError(
            f"no prompts to train on: give --prompts FILE.txt or FILE.csv:COLUMN (only {EMBLEM!r} has its own)"
        )
    different = list(dict.fromkeys(prompts))  # a repeated prompt would stand on both sides of the split
    if len(different) < 4:
        raise SnceError(f"{len(different)} different prompts are too few to train on; an SAE wants thousands")
    if len(different) < len(prompts):
        stderr().print(f"{len(prompts) - len(different)} of {len(prompts)} prompts are repetitions, and left out")
    Random(options.seed).shuffle(different)
    return different


def call_options(max_sequence_length: int | None) -> dict[str, int]:
    """Of the pipeline's call."""
    return {} if max_sequence_length is None else {"max_sequence_length": max_sequence_length}


def tower_folder(out: Path, tower: "TextTower", towers: "Sequence[TextTower]") -> Path:
    """Where the SAE of one of a pipeline's towers is."""
    return out if len(towers) == 1 else out / tower.place


def cache_of(folder: Path) -> Path:
    """Where the embeddings are that an SAE in `folder` is trained on."""
    return folder / "embeddings"
