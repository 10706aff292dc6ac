"""SPM's adapters: of rank one, on every linear layer and convolution of the UNet's blocks."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Adapter:
    """K adapters of rank one on one layer."""

    down: Tensor
    """[K, in] or, for a convolution, [K, in, h, w]."""
    up: Tensor
    """[out, K]."""

    @classmethod
    def fresh(cls, layer: nn.Module, rng: torch.Generator) -> Adapter:
        """One adapter: down uniform as in Kaiming's initialisation (as published), up zero: the identity."""
        weight: Any = layer.weight
        shape = (1, *weight.shape[1:])
        bound = (3 / weight[0].numel()) ** 0.5
        down = (torch.rand(shape, generator=rng) * 2 - 1) * bound
        return cls(down.to(weight.device), torch.zeros(len(weight), 1, device=weight.device))

    @classmethod
    def stacked(cls, adapters: Sequence[Adapter]) -> Adapter:
        return cls(torch.cat([a.down for a in adapters]), torch.cat([a.up for a in adapters], 1))

    def __call__(self, layer: nn.Module, x: Tensor, scale: Tensor) -> Tensor:
        """What is added to the layer's output for its input x; scale: m, [1 or rows, K]."""
        down, up = self.down.to(x), self.up.to(x)
        if isinstance(layer, nn.Conv2d):
            z = F.conv2d(x, down, None, layer.stride, layer.padding, layer.dilation)
            return F.conv2d(z * scale.to(z)[:, :, None, None], up[:, :, None, None])
        z = F.linear(x, down)
        return F.linear(z * scale.to(z).reshape(len(scale), *(1,) * (z.ndim - 2), -1), up)


Adapters = dict[str, Adapter]


def adapted(unet: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers that get adapters: all linear layers and convolutions of the UNet's blocks."""
    found = [
        (name, module)
        for name, module in unet.named_modules()
        if name.startswith(("down_blocks.", "mid_block.", "up_blocks."))
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
    ]
    if not found:
        raise SnceError(f"{type(unet).__name__} has no linear layers or convolutions in its blocks")
    return found


class Scale(threading.local):
    """m of the UNet call that runs in this thread, [1 or rows, K]; None: the adapters are off."""

    value: Tensor | None = None


@contextmanager
def hooked(unet: nn.Module, adapters: Adapters, scale: Scale) -> Iterator[None]:
    """The adapters act on the UNet's layers inside the block, by `scale.value`."""

    def hook_of(adapter: Adapter) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            return None if scale.value is None else output + adapter(layer, inputs[0], scale.value).to(output)

        return hook

    with ExitStack() as stack:
        for name, adapter in adapters.items():
            stack.callback(unet.get_submodule(name).register_forward_hook(hook_of(adapter)).remove)
        yield
