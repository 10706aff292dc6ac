"""Several processes train one model, a core each: `torchrun --nproc-per-node 2 -m recipes.emblem.unet`.

Each takes its share of every batch; gradients are averaged. On a CPU this beats several threads in one process, which
wait for each other after every small operation. Started without torchrun, everything here does nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def start() -> tuple[int, int]:
    """(rank, number of processes) of this process, which is bound to a core of its own."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1
    dist.init_process_group("gloo")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= world:
        os.sched_setaffinity(0, {cores[dist.get_rank()]})
    torch.set_num_threads(1)
    return dist.get_rank(), world


def sum_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one exchange."""
    if not dist.is_initialized():
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        t.copy_(part.view_as(t))


def descend(
    loss: Tensor, model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], lr: float, world: int
) -> None:
    """One step of all optimizers at the rate `lr`, along the gradient averaged over the processes and clipped to 1."""
    for optimizer in optimizers.values():
        optimizer.zero_grad()
    (loss / world).backward()
    sum_([p.grad for p in model.parameters() if p.grad is not None])
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
