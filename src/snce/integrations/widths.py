"""Embeddings of several encoders that stand side by side in one."""

from __future__ import annotations

import torch
from torch import Tensor


def write_back(x: Tensor, where: slice, changed: Tensor) -> Tensor:
    """x [b, positions, width] with x[..., where] replaced by `changed`: a copy, or x itself if they are equal."""
    if torch.equal(x[..., where], changed):
        return x
    x = x.clone()
    x[..., where] = changed
    return x
