"""Text encoders with neurons switched off for good. `snce bake` copies this file, unchanged, into what it writes.

It stands alone: torch and transformers are all that it needs. Per neuron and token position, with x the embedding that
the plain encoder hands over (https://arxiv.org/abs/2509.21008; the formulas are those of snce/erase/edit.py):

    u = w . x + b          fires where u > threshold; a neuron of a prompt code (`whole_prompt`) then fires in the whole
                           prompt, wherever u > 0 in it
    a = u                  or, for a neuron with a level, u * max(1, level / max(u over the prompt))
    x' = x - strength * a * direction      where it fires; elsewhere x' is x, bit for bit

`config.snce["parts"]` says where: at the output of a module ("final_layer_norm"), or in fields of what the encoder
returns ("output.text_embeds", "output.hidden_states[-2]"). In these, what every prompt begins with is left alone, and
so is what the attention mask hides.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Model,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5EncoderModel,
    UMT5EncoderModel,
)

FLOATS = ("encoder", "bias", "threshold", "decoder", "strength", "level")
_ALONE = "snce" not in __name__.split(".")  # loaded from a folder, not from the library
_HOME = Path(__file__).stem if _ALONE else __name__
sys.modules.setdefault(_HOME, sys.modules[__name__])


class Neurons(nn.Module):
    """n neurons, switched off in embeddings [b, positions, d] that are read at one place."""

    whole_prompt: Tensor

    def __init__(self, part: dict[str, Any]) -> None:
        super().__init__()
        self.begin = part["begin"]  # positions left alone,
        self.leading = part["leading"]  # and in fields the token ids there: the edit begins where a prompt departs
        self.masked = part["masked"]  # whether the denoiser, too, leaves out what the attention mask hides
        self.module, self.field, self.layers = part["place"], "", ()
        if self.module.startswith("output."):
            self.field, _, layers = self.module.removeprefix("output.").rstrip("]").partition("[")
            self.layers = tuple(int(i) for i in layers.split(",") if i)
        n, d = len(part["concepts"]), part["width"]
        for name in FLOATS:
            shape = (n, d) if name in ("encoder", "decoder") else (n,)
            # float32 numbers, kept as their bits: casting the model (dtype=, .half()) must not move a threshold
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("whole_prompt", torch.zeros(n, dtype=torch.bool))

    def forward(self, x: Tensor, begin: int | Tensor, mask: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # its half precision could move a neuron past a threshold
            return self._edit(x, begin, mask)

    def _edit(self, x: Tensor, begin: int | Tensor, mask: Tensor | None) -> Tensor:
        # copied: a safetensors file aligns its tensors otherwise than memory does, and sums then end in other last bits
        floats = [getattr(self, name).clone().view(torch.float32) for name in FLOATS]
        w, b, threshold, direction, strength, level = floats
        dtype = torch.promote_types(x.dtype, torch.float32)
        u = x.to(dtype) @ w.to(dtype).T + b
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        u = u.masked_fill((~mask | (mask.cumsum(1) <= begin))[..., None], 0)
        above = u > threshold.clamp_min(0)
        fires = torch.where(self.whole_prompt, above.any(1, keepdim=True) & (u > 0), above)
        peak = u.amax(1, keepdim=True)
        peak = torch.where(peak > 0, peak, torch.ones_like(peak))
        amount = u * (level / peak).clamp_min(1)
        amount = strength * torch.where(fires, amount, torch.zeros_like(u))
        edited = x.to(dtype) - amount @ direction.to(dtype)
        return torch.where((amount != 0).any(-1, keepdim=True), edited.to(x.dtype), x)

    def edit_module(self, _module, _inputs, output):
        """A hook on the module."""
        return (self(output[0], self.begin), *output[1:]) if isinstance(output, tuple) else self(output, self.begin)

    def edit_field(self, output: Any, ids: Tensor | None, mask: Tensor | None) -> None:
        """In what the encoder returns for these token ids [b, positions], if the field is there."""
        value = output.get(self.field)
        if value is None:
            return
        x = torch.cat([value[i] for i in self.layers], dim=-1) if self.layers else value
        x = x[:, None] if x.ndim == 2 else x  # one embedding for the whole prompt
        if x.shape[1] == 1:
            x = self(x, self.begin)
        else:
            x = self(x, self._begin_of(ids, mask), mask if self.masked else None)
        if self.layers:
            states = list(value)
            for i, state in zip(self.layers, x.split([value[i].shape[-1] for i in self.layers], dim=-1), strict=True):
                states[i] = state
            output[self.field] = tuple(states)
        else:
            output[self.field] = x.reshape(value.shape)

    def _begin_of(self, ids: Tensor | None, mask: Tensor | None) -> int | Tensor:
        """How many of the leading tokens the first prompt begins with: Sana puts negative prompts into no template."""
        if not self.leading:
            return 0
        if ids is None:
            raise ValueError("an encoder with neurons switched off needs input_ids")
        first = (ids[0] if mask is None else ids[0][mask[0]])[: len(self.leading)]
        return (first == first.new_tensor(self.leading[: len(first)])).long().cumprod(0).sum()


class Kept(nn.Module):
    """A module as it is, under another name.

    Its weights are here under the names that they have in a plain encoder plus `inner`. Under the plain name is one
    number that is never read: so whoever loads these weights into the plain class gets an error about sizes, not an
    encoder without the edit.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("weight", torch.zeros(1, dtype=torch.int32))

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


class _Erased(nn.Module):
    """Makes the encoder class that stands beside it one that edits what it hands over, as `config.snce` says."""

    _auto_class = "AutoModel" if _ALONE else None  # save_pretrained then takes this file along
    config: Any
    snce: Any

    def __init__(self, config, *args, **kwargs) -> None:
        super().__init__(config, *args, **kwargs)
        self.add_neurons()

    def add_neurons(self) -> None:
        """Their numbers are zero until weights are loaded."""
        root = self._modules.get("text_model") or self  # nested or not, as the class and transformers' version have it
        self.snce = nn.ModuleList(Neurons(part) for part in self.config.snce["parts"])
        for neurons in self.snce:
            if not neurons.field:  # first of the hooks: those that collect hidden states must collect the edited ones
                root.get_submodule(neurons.module).register_forward_hook(neurons.edit_module, prepend=True)
        norm = self.config.snce["norm"]
        root.set_submodule(norm, Kept(root.get_submodule(norm)))

    def forward(self, *args, return_dict=None, **kwargs):
        output = super().forward(*args, return_dict=True, **kwargs)
        ids = kwargs.get("input_ids", args[0] if args else None)
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        mask = mask.bool() if isinstance(mask, Tensor) else None
        fields = [neurons for neurons in self.snce if neurons.field]
        for neurons in fields:
            neurons.edit_field(output, ids, mask)
        states = output.get("hidden_states")
        if states is not None and any(neurons.layers for neurons in fields):
            # the others are not handed out: a pipeline that is told clip_skip would take one that is not edited
            edited = {i % len(states) for neurons in fields for i in neurons.layers}
            output["hidden_states"] = tuple(state if i in edited else None for i, state in enumerate(states))
        whole = self.config.return_dict if return_dict is None else return_dict
        return output if whole else output.to_tuple()

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


# `__module__` is the name that save_pretrained writes into model_index.json


class ErasedCLIPTextModel(_Erased, CLIPTextModel):
    __module__ = _HOME

    @property
    def text_model(self):
        """With clip_skip, pipelines look here for the last norm, also where transformers no longer nests it."""
        return self._modules.get("text_model") or self


class ErasedCLIPTextModelWithProjection(_Erased, CLIPTextModelWithProjection):
    __module__ = _HOME


class ErasedT5EncoderModel(_Erased, T5EncoderModel):
    __module__ = _HOME


class ErasedUMT5EncoderModel(_Erased, UMT5EncoderModel):
    __module__ = _HOME


class ErasedGemma2Model(_Erased, Gemma2Model):
    __module__ = _HOME


class ErasedQwen3Model(_Erased, Qwen3Model):
    __module__ = _HOME


class ErasedQwen3ForCausalLM(_Erased, Qwen3ForCausalLM):
    __module__ = _HOME


class ErasedQwen2_5_VLForConditionalGeneration(_Erased, Qwen2_5_VLForConditionalGeneration):
    __module__ = _HOME


class ErasedMistral3ForConditionalGeneration(_Erased, Mistral3ForConditionalGeneration):
    __module__ = _HOME
