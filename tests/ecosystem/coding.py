"""Our SAEs on rows of embeddings, and a comparison that leaves out what rounding decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.text.positions import WORD

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder

CLOSE = 1e-4


def as_positions(x: Tensor) -> tuple[Tensor, Tensor]:
    """(embeddings [rows, 1, d], kinds): each row a prompt of one word."""
    return x[:, None], torch.full((len(x), 1), WORD)


def pre_activations(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """ReLU(pre) in the units of the embeddings, [rows, m]."""
    return sae.scale * sae.pre(*as_positions(x))[:, 0]


def activations(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """z in the units of the embeddings, [rows, m]."""
    return sae.scale * sae.encode(*as_positions(x)).activations[:, 0]


def clear_of_ties(pre: Tensor, k: int) -> Tensor:
    """Rows [rows, m] whose k-th and next activation differ by more than rounding: the active latents are settled."""
    top = pre.topk(k + 1, dim=1).values
    return top[:, k - 1] - top[:, k] > CLOSE


def clear_of_thresholds(pre: Tensor, threshold: Tensor) -> Tensor:
    """Rows none of whose activations lies as near to its threshold as rounding reaches."""
    return ((pre - threshold).abs() > CLOSE).all(1)


def assert_close_where(clear: Tensor, theirs: Tensor, ours: Tensor) -> None:
    """The same numbers in the rows that are clear, which are nearly all."""
    assert clear.float().mean() > 0.9
    torch.testing.assert_close(theirs[clear], ours[clear], rtol=1e-4, atol=5e-4)
