"""Training of a copy of the UNet, or of adapters on it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import Progress
from torch import Tensor, nn

from snce.bench.methods.base import loaded, nbytes
from snce.checkpoint import generator
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager


def trainable_copy(unet: nn.Module, wanted: Callable[[str], bool]) -> tuple[Any, dict[str, nn.Parameter]]:
    """A float32 copy of the UNet, and its parameters whose names are `wanted`: only these have gradients.

    Raises:
        SnceError: there are none.
    """
    edited = copy.deepcopy(unet).float().requires_grad_(False)
    parameters = {name: p for name, p in edited.named_parameters() if wanted(name)}
    if not parameters:
        raise SnceError(f"{type(unet).__name__} has no parameters of the kind that this method trains")
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return edited, parameters


def minimise(
    parameters: Sequence[Tensor],
    loss: Callable[[torch.Generator], Tensor],
    optimizer: torch.optim.Optimizer,
    steps: int,
    seed: int,
    title: str,
    progress: bool,
) -> tuple[float, ...]:
    """Take `steps` optimiser steps on `loss(random stream of the step)`; returns the losses.

    Raises:
        SnceError: a loss that is not finite.
    """
    losses: list[float] = []
    with Progress(transient=True, disable=not progress) as bar, torch.enable_grad():
        task = bar.add_task(title, total=steps)
        for step in range(steps):
            value = loss(generator(seed, step))
            if not torch.isfinite(value):
                raise SnceError(f"{title}: the loss is {value.item()} at step {step}; lower the learning rate")
            optimizer.zero_grad()
            gradients = torch.autograd.grad(value, list(parameters), allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            losses.append(value.item())
            bar.update(task, advance=1, description=f"{title} (loss {losses[-1]:.4f})")
    return tuple(losses)


@dataclass(frozen=True)
class TrainedWeights:
    """An erasure that is new values of some of the UNet's parameters."""

    weights: dict[str, Tensor]
    losses: tuple[float, ...] = ()
    """Training loss of each step."""

    @property
    def nbytes(self) -> int:
        return nbytes(self.weights)

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        return loaded(pipe.unet, self.weights)

    @classmethod
    def of(cls, parameters: dict[str, nn.Parameter], like: nn.Module, losses: tuple[float, ...]) -> TrainedWeights:
        """Cast to the dtypes of `like`, the UNet that they are for."""
        own = dict(like.named_parameters())
        return cls({name: p.detach().clone().to(own[name]) for name, p in parameters.items()}, losses)
