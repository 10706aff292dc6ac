"""Several processes train one model, a core each: `torchrun --nproc-per-node 2 -m recipes.emblem.unet`.

Each takes its share of every batch; gradients are averaged. On a CPU this beats several threads in one process, which
wait for each other after every small operation. Started without torchrun, everything here does nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


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
