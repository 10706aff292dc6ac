"""Training checkpoints that survive a kill: safetensors (never pickle), whole or absent.

Every training step draws its randomness from `generator(seed, step)`, so a resumed run needs no saved random state and
gives what an uninterrupted one gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from snce.errors import SnceError
from snce.storage import read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KIND = "snce-checkpoint-1"


def generator(seed: int, step: int) -> torch.Generator:
    """The random stream of one training step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def save(
    path: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    purpose: str = "",
) -> None:
    """Write the state after `step` steps. `purpose` says what is trained on what: `load` refuses another."""
    tensors = {f"module/{name}/{k}": v for name, m in modules.items() for k, v in m.state_dict().items()}
    for name, optimizer in optimizers.items():
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{name}/{i}/{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    write_tensors(path, tensors, {"format": KIND, "step": str(step), "purpose": purpose})


def load(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    purpose: str = "",
) -> int:
    """Restore in place and return the step to go on from; 0 where there is no checkpoint.

    Raises:
        SnceError: the checkpoint is damaged, or belongs to another training.
    """
    if not path.exists():
        return 0
    try:
        tensors, metadata = read_tensors(path, KIND, summed=True)
    except SnceError as error:
        raise SnceError(f"{error}; delete it, and the training starts anew") from error
    if metadata.get("purpose") != purpose:
        raise SnceError(
            f"{path} belongs to another training ({metadata.get('purpose')!r}, not {purpose!r}): "
            "delete it, or choose another folder"
        )
    try:
        for name, module in modules.items():
            prefix = f"module/{name}/"
            module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        for name, optimizer in optimizers.items():
            prefix = f"optimizer/{name}/"
            own = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            if own:
                groups = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict({"state": _states(own, optimizer), "param_groups": groups})
        step = int(metadata["step"])
        if step < 0:
            raise ValueError(f"{step} steps")
    # of a checkpoint whose contents are not of its own making, whatever they are
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnceError(
            f"{path} does not fit the model that is trained: {' '.join(str(error).split())[:200]}"
        ) from error
    return step


def _states(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The optimiser's tensors "index/entry" by the index of their parameter, after a check of their shapes.

    Raises:
        ValueError: one fits no parameter.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, entry = key.split("/")
        if not 0 <= int(index) < len(parameters):
            raise ValueError(f"there is no parameter {index}")
        shape = parameters[int(index)].shape
        # a state is of one number, of one for each row, or of one for each of the parameter's numbers
        if value.numel() != 1 and value.shape[:1] != shape[:1]:
            raise ValueError(f"{entry} of parameter {index} has shape {list(value.shape)}, not {list(shape)}")
        states.setdefault(int(index), {})[entry] = value
    return states
