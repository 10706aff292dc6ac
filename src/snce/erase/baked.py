"""Text encoders with neurons switched off for good. `snce bake` copies this file, unchanged, into what it writes.

It stands alone: torch and transformers are all that it needs. Per neuron and token position, with x the embedding that
the plain encoder hands over (https://arxiv.org/abs/2509.21008; the formulas are those of snce/erase/edit.py):

    u = w . x + b          fires where u > threshold; a neuron of a prompt code (`whole_prompt`) then fires in the whole
                           prompt, wherever u > 0 in it
    a = u                  or, for a neuron with a level, u * level / max(u over the prompt)
    x' = x - strength * a * direction      where it fires; elsewhere x' is x, bit for bit
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel

FLOATS = ("encoder", "bias", "threshold", "decoder", "strength", "level")
_ALONE = "snce" not in __name__.split(".")  # loaded from a folder, not from the library
_HOME = Path(__file__).stem if _ALONE else __name__
sys.modules.setdefault(_HOME, sys.modules[__name__])


class Edited(nn.Module):
    """A module whose output, [b, positions, d], has n neurons switched off."""

    whole_prompt: Tensor

    def __init__(self, inner: nn.Module, n: int, d: int, begin: int) -> None:
        super().__init__()
        self.inner = inner
        self.begin = begin
        for name in FLOATS:
            shape = (n, d) if name in ("encoder", "decoder") else (n,)
            # float32 numbers, kept as their bits: casting the model (dtype=, .half()) must not move a threshold
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("whole_prompt", torch.zeros(n, dtype=torch.bool))
        # Never read: it has the name that the plain module's first weight has in a plain encoder, and another shape.
        # So whoever loads these weights into the plain class gets an error, not an encoder without the edit.
        *above, last = next(name for name, _ in inner.named_parameters()).split(".")
        guard = self
        for name in above:
            guard.add_module(name, nn.Module())
            guard = guard.get_submodule(name)
        guard.register_buffer(last, torch.zeros(1, dtype=torch.int32))
        # first of the hooks: those that collect hidden states must collect the edited ones
        inner.register_forward_hook(self._edit_output, prepend=True)

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)

    def _edit_output(self, _module, _inputs, output):
        return (self.edit(output[0]), *output[1:]) if isinstance(output, tuple) else self.edit(output)

    def edit(self, x: Tensor) -> Tensor:
        w, b, threshold, direction, strength, level = (getattr(self, name).view(torch.float32) for name in FLOATS)
        dtype = torch.promote_types(x.dtype, torch.float32)
        u = x.to(dtype) @ w.to(dtype).T + b
        u = torch.cat([torch.zeros_like(u[:, : self.begin]), u[:, self.begin :]], dim=1)  # begin-of-text stays as it is
        above = u > threshold.clamp_min(0)
        fires = torch.where(self.whole_prompt, above.any(1, keepdim=True) & (u > 0), above)
        peak = u.amax(1, keepdim=True).clamp_min(torch.finfo(dtype).tiny)
        amount = torch.where(level > 0, u * (level / peak), u)
        amount = strength * torch.where(fires, amount, torch.zeros_like(u))
        edited = x.to(dtype) - amount @ direction.to(dtype)
        return torch.where((amount != 0).any(-1, keepdim=True), edited.to(x.dtype), x)


class _Erased(nn.Module):
    """Makes the encoder class that stands beside it one whose module `config.snce["module"]` is edited."""

    _auto_class = "AutoModel" if _ALONE else None  # save_pretrained then takes this file along

    def __init__(self, config, *args, **kwargs) -> None:
        super().__init__(config, *args, **kwargs)
        about = config.snce
        root = self._modules.get("text_model") or self  # nested or not, as the class and transformers' version have it
        inner = root.get_submodule(about["module"])
        root.set_submodule(about["module"], Edited(inner, about["neurons"], config.hidden_size, about["begin"]))

    @classmethod
    def from_pretrained(cls, *args, output_loading_info=False, **kwargs) -> Any:
        load = super().from_pretrained  # pyright: ignore[reportAttributeAccessIssue] - of the class that stands beside
        model, info = load(*args, output_loading_info=True, **kwargs)
        if info["missing_keys"]:  # transformers would draw them at random, and a lost edit would be none
            raise RuntimeError(
                f"the weights lack {', '.join(sorted(info['missing_keys'])[:3])}, ...: the edit was taken out, or the "
                "file is of a version of transformers that names weights otherwise (that changed in 5.6)"
            )
        return (model, info) if output_loading_info else model


class ErasedCLIPTextModel(_Erased, CLIPTextModel):
    __module__ = _HOME  # the name that save_pretrained writes into model_index.json

    @property
    def text_model(self):
        """With clip_skip, pipelines look here for the last norm, also where transformers no longer nests it."""
        return self._modules.get("text_model") or self


class ErasedCLIPTextModelWithProjection(_Erased, CLIPTextModelWithProjection):
    __module__ = _HOME


class ErasedT5EncoderModel(_Erased, T5EncoderModel):
    __module__ = _HOME
