"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024), here also for convolutions.

PyTorch's own `torch.optim.Muon` takes two-dimensional parameters only; a UNet is mostly four-dimensional ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from . import parallel

if TYPE_CHECKING:
    from collections.abc import Iterable


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Nearly the nearest semi-orthogonal matrix of g [m, n], by a quintic Newton-Schulz iteration in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315  # Jordan's coefficients: steepest at zero while the iteration stays bounded
    x = g.bfloat16()
    x = x / (x.norm() + 1e-7)
    wide = x if x.shape[0] <= x.shape[1] else x.T
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide if x.shape[0] <= x.shape[1] else wide.T).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions, flattened to [out, rest]. Steps have the size of Adam's (rms 0.2 * lr).

    Of several processes with equal gradients, each orthogonalises its share of the matrices.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.rank = rank
        self.world = world

    def direction(self, i: int, p: nn.Parameter, momentum: float) -> Tensor:
        """The orthogonalised update of `p`; zeros where it is another process's share."""
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        buffer = state["momentum"]
        buffer.lerp_(p.grad, 1 - momentum)
        if i % self.world != self.rank:
            return torch.zeros_like(p)
        return orthogonalise(p.grad.lerp(buffer, momentum).reshape(len(p), -1)).view_as(p)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            directions = [self.direction(i, p, group["momentum"]) for i, p in enumerate(params)]
            parallel.sum_(directions)
            for p, direction in zip(params, directions, strict=True):
                size = 0.2 * max(len(p), p[0].numel()) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(direction, alpha=-group["lr"] * size)


def split_parameters(model: nn.Module, not_matrices: tuple[str, ...]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices for Muon, the rest for Adam). `not_matrices`: name prefixes of first and last layers, left to Adam."""
    matrices, rest = [], []
    for name, p in model.named_parameters():
        (matrices if p.ndim >= 2 and not name.startswith(not_matrices) else rest).append(p)
    return matrices, rest
