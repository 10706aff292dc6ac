"""What a method is made from, in words that are the same in every process and tell other settings and SAEs apart."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from snce.text.fingerprint import weights_fingerprint


def recipe(thing: Any) -> str:
    """Settings by name, models and tensors by a hash of their numbers, functions by their names.

    Of a dataclass, fields that do not count in comparisons (`compare=False`) are left out: a progress bar changes
    nothing. A change of code is not seen.
    """
    if isinstance(thing, nn.Module):
        return weights_fingerprint(thing)
    if isinstance(thing, Tensor):
        return hashlib.sha256(thing.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
    if is_dataclass(thing) and not isinstance(thing, type):
        told = (f"{f.name}={recipe(getattr(thing, f.name))}" for f in fields(thing) if f.compare)
        return f"{type(thing).__name__}({', '.join(told)})"
    if isinstance(thing, tuple):
        return f"({', '.join(map(recipe, thing))})"
    return getattr(thing, "__qualname__", None) or repr(thing)
