"""The tensors that benchmarks/sae_training.py trains on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

if TYPE_CHECKING:
    from pathlib import Path

HELD_OUT = 8192
"""Rows of the synthetic data that are not trained on; Emblem's are those of so many captions:"""
HELD_OUT_CAPTIONS = 1300


class Made(NamedTuple):
    rows: int
    """Rows of the file, to train on."""
    held_out: Tensor
    atoms: Tensor | None
    """The true dictionary [n, d], unit rows."""


def write(path: Path, x: Tensor) -> None:
    torch.from_file(str(path), shared=True, size=x.numel()).copy_(x.flatten())


def emblem(width: int, latents: int, tokens: int, path: Path) -> Made:
    """Words and ends of the captions that Emblem's own SAEs are trained on; those to train on are shuffled."""
    from snce.emblem.corpus import captions_for_training
    from snce.emblem.load import load
    from snce.text.harvest import harvest
    from snce.text.positions import END, WORD
    from snce.text.towers import TextTower

    data = harvest(TextTower.from_pipeline(load()), captions_for_training(8000), path.parent / "harvest")
    if data.x.shape[2] != width:
        raise SystemExit(f"Emblem's embeddings have width {data.x.shape[2]}, not {width}")
    x, held_out = apart(data.x, (data.kinds == WORD) | (data.kinds == END), HELD_OUT_CAPTIONS)
    write(path, x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))].float())
    return Made(len(x), held_out.float(), None)


def apart(x: Tensor, used: Tensor, captions: int) -> tuple[Tensor, Tensor]:
    """Rows to train on, and rows that are held out: those of the first `captions` captions that no other caption has.

    A causal encoder gives tokens the same embedding in all captions that begin alike: split by captions alone, two
    rows of five would be in both parts.

    Args:
        x, used: [n, positions, d], and which positions count, bool [n, positions].
    """
    fit, rest = x[captions:][used[captions:]], x[:captions][used[:captions]]
    known = {row.tobytes() for row in fit.numpy()}
    return fit, rest[torch.tensor([row.tobytes() not in known for row in rest.numpy()])]


def synthetic(width: int, latents: int, tokens: int, path: Path) -> Made:
    """Each row is a sum of 16 of `latents` / 4 random atoms, of amounts from 0.5 to 1.5, with a little noise."""
    rng = torch.Generator().manual_seed(1)
    atoms = normalize(torch.randn(latents // 4, width, generator=rng), dim=1)
    n = min(tokens, 262_144) + HELD_OUT
    chosen = torch.stack([torch.randperm(len(atoms), generator=rng)[:16] for _ in range(n)])
    x = embedding_bag(chosen, atoms, mode="sum", per_sample_weights=0.5 + torch.rand(n, 16, generator=rng))
    x += 0.01 * torch.randn(x.shape, generator=rng)
    write(path, x[HELD_OUT:])
    return Made(n - HELD_OUT, x[:HELD_OUT].clone(), atoms)


DATA = {"emblem": emblem, "synthetic": synthetic}
