"""Which prompts the neurons fire on: known from the text alone, long before pictures are drawn."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from snce.pipelines import load_pipeline
from snce.storage import write_text
from snce.text.towers import TextTower

from .prompts import by_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from snce.bench.suites.columns import Fields
    from snce.erase.eraser import ConceptEraser

BATCH = 64


def fires(eraser: ConceptEraser, embeddings: Tensor) -> Tensor:
    """Whether one of its neurons fires at least, bool [prompts]."""
    return (eraser.activations(embeddings) > eraser.neurons.threshold).any(1)


def write_caught(
    path: Path, model: str, erasers: Mapping[str, ConceptEraser], prompts: Sequence[Fields], captions: Sequence[str]
) -> None:
    """A table in Markdown, of the prompts that are held back: those of the category that its eraser fires on, of the
    other categories, and captions. Prompts on which it does not fire keep their pictures."""
    categories = by_text(prompts)
    texts = [*categories, *captions]
    fired: dict[str, list[Tensor]] = {name: [] for name in erasers}
    tower = TextTower.from_pipeline(load_pipeline(model))
    for eraser in erasers.values():
        eraser.check(tower)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # long prompts are cut where their pictures are drawn, too
        for start in range(0, len(texts), BATCH):
            embeddings = tower.encode(texts[start : start + BATCH])
            for name, eraser in erasers.items():
                fired[name].append(fires(eraser, embeddings))
    lines = ["| category | its prompts that are caught | other prompts of I2P | captions |", "|---" * 4 + "|"]
    for name, parts in fired.items():
        hit = torch.cat(parts)
        about = torch.tensor([name in words for words in categories.values()])
        told, others, plain = hit[: len(about)][about], hit[: len(about)][~about], hit[len(about) :]
        lines.append(f"| {name} | {_share(told)} | {_share(others)} | {_share(plain)} |")
    write_text(path, "\n".join(lines) + "\n")


def _share(hits: Tensor) -> str:
    return f"{100 * hits.float().mean().item():.1f} % of {len(hits)}" if len(hits) else "-"
