"""Where a pipeline's towers stand in the two tensors that other programs hand on: the embeddings of the tokens, with
those of several encoders side by side, and the pooled output of the whole prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from snce.text.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Places(NamedTuple):
    """Towers by their `place`, from left to right."""

    tokens: tuple[str, ...]
    """In the embeddings of the tokens, [b, positions, width]."""
    pooled: tuple[str, ...] = ()
    """In the pooled output, [b, width]."""


def is_pooled(path: str) -> bool:
    """Whether a tower that is read there has one embedding for the whole prompt."""
    return path in ("output.text_embeds", "output.pooler_output")


def places_of(family: str) -> Places:
    """Those of a family of `snce.text.families.FAMILIES`."""
    named = [(f"{row.encoder}.{row.path}", is_pooled(row.path)) for row in FAMILIES[family]]
    return Places(tuple(p for p, pooled in named if not pooled), tuple(p for p, pooled in named if pooled))


def columns(places: Sequence[str], widths: Mapping[str, int], total: int) -> dict[str, slice] | None:
    """Which of `total` numbers belong to which place; None if these places do not make up that width.

    Args:
        widths: by place. One place at most may be left out: it has the rest, which may be nothing.
    """
    rest = total - sum(widths.get(place, 0) for place in places)
    unknown = sum(place not in widths for place in places)
    if rest < 0 or unknown > 1 or (rest > 0 and not unknown):
        return None
    found, start = {}, 0
    for place in places:
        found[place] = slice(start, start := start + widths.get(place, rest))
    return found


def write_back(x: Tensor, where: tuple, changed: Tensor) -> Tensor:
    """x with x[where] replaced by `changed`: a copy, or x itself if they are equal."""
    if torch.equal(x[where], changed):
        return x
    x = x.clone()
    x[where] = changed
    return x
