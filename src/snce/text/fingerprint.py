"""Which weights a model has: erasers and SAEs are refused on others."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


_EDIT = "snce."
"""Where the encoders of `snce.erase.baked` have their edit."""


def weights_fingerprint(model: nn.Module) -> str:
    """16 hex digits of the hash of a model's floating-point weights, rounded to float16, and of the edit that is baked
    into it. Adapters beside them (LoRA) do not count: whoever adds one to a text encoder keeps its erasers."""
    digest = hashlib.sha256()
    weights = {key.replace(".base_layer.", "."): value for key, value in _state(model).items()}
    for key, value in sorted(weights.items()):
        # where an encoder nests its parts depends on the transformers version, and on torch.compile
        name = key.removeprefix("_orig_mod.").removeprefix("text_model.")
        edit = name.startswith(_EDIT)
        if edit or (value.is_floating_point() and ".lora_" not in key):
            digest.update(name.encode())
            # a copy cast to half precision is still the same model; what is baked in keeps its bits in any cast
            value = value.detach().cpu() if edit else value.detach().cpu().to(torch.float16)
            digest.update(value.numpy().tobytes())  # in order, whatever the layout
    return digest.hexdigest()[:16]


def pipeline_fingerprints(pipe: Any) -> dict[str, str]:
    """`weights_fingerprint` of each model of a diffusers pipeline, by the component's name."""
    parts = sorted(pipe.components.items())
    return {name: weights_fingerprint(part) for name, part in parts if isinstance(part, nn.Module)}


def scheduler_fingerprint(scheduler: Any) -> str:
    """Class and settings of a diffusers scheduler: "DDIMScheduler 0123456789abcdef"."""
    told = {name: repr(value) for name, value in scheduler.config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return f"{type(scheduler).__name__} {digest}"


def _state(model: nn.Module) -> dict[str, Tensor]:
    if not any(parameter.is_meta for parameter in model.parameters()):
        return model.state_dict()
    from accelerate.utils.modeling import get_state_dict_offloaded_model

    return get_state_dict_offloaded_model(model)  # one module at a time: the weights are elsewhere
