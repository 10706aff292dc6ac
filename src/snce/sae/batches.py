"""What a training step reads of the embeddings."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.text.positions import BEGIN, PADDING

if TYPE_CHECKING:
    from snce.text.harvest import Embeddings

AT_ONCE = 1 << 16
"""Prompts whose kinds are copied at a time."""


def draw_positions(data: Embeddings, rows: Tensor, padding: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """All words, the end and `padding` random padding positions of the prompts; the rest is marked BEGIN: left alone.

    Returns x [n, p, d] and kinds [n, p], p as small as the longest of the prompts allows.
    """
    kinds = data.kinds[rows]
    is_padding = kinds == PADDING
    lottery = torch.rand(kinds.shape, generator=rng).masked_fill(~is_padding, -1)
    drawn = torch.zeros_like(is_padding).scatter_(1, lottery.topk(min(padding, kinds.shape[1])).indices, True)
    kinds = torch.where(is_padding & ~drawn, torch.full_like(kinds, BEGIN), kinds)
    used = kinds != BEGIN
    place = (~used).to(torch.int8).argsort(dim=1, stable=True)[:, : int(used.sum(1).max())]
    x = data.x[rows[:, None], place].float()
    return x, kinds.gather(1, place)


def with_content(data: Embeddings, rows: Tensor) -> Tensor:
    """Those of the prompts `rows`, int64 [n], that have a token which is not left alone, in their order."""
    kinds = data.kinds
    return rows[torch.cat([(kinds[part] != BEGIN).any(1) for part in rows.split(AT_ONCE)])]


def digest(data: Embeddings) -> str:
    """Tells data sets apart by a sample of their rows: they may be far larger than memory."""
    rows = torch.linspace(0, len(data) - 1, min(64, len(data))).long()
    sample = data.x[rows].float().contiguous()
    found = hashlib.sha256(sample.cpu().numpy().tobytes())
    for kinds in data.kinds.split(AT_ONCE):
        found.update(kinds.cpu().numpy().tobytes())
    return found.hexdigest()[:16]
