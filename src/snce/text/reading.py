"""Where the denoiser's text input leaves an encoder: the output of a module, or a field of the encoder's own output."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from snce.errors import SnceError

_FIELD = re.compile(r"output\.(\w+)(?:\[(-?\d+(?:,-?\d+)*)\])?")


class Reading:
    """One place at which an encoder is read and edited.

    Args:
        encoder: a `transformers` text model.
        path: dotted path of a submodule, such as "final_layer_norm", whose output is read; or a field of what the
            encoder returns: "output.last_hidden_state", "output.text_embeds", "output.hidden_states[-2]"; or several
            hidden states side by side: "output.hidden_states[9,18,27]". A field is edited in what the encoder returns:
            nothing inside the encoder, and no other field, notices.

    Raises:
        SnceError: the encoder has no such module, or the path is malformed.
    """

    def __init__(self, encoder: nn.Module, path: str) -> None:
        self.module = encoder
        self._field, self._indices = "", ()
        if path.startswith("output."):
            parts = _FIELD.fullmatch(path)
            if parts is None:
                raise SnceError(f"{path!r} must be like output.last_hidden_state or output.hidden_states[-2]")
            self.path, self._field = path, parts[1]
            self._indices = tuple(int(i) for i in parts[2].split(",")) if parts[2] else ()
        else:
            self.path, self.module = _find_module(encoder, path)

    @property
    def is_field(self) -> bool:
        """Whether it is a field of the encoder's output, not a module inside it."""
        return bool(self._field)

    @property
    def of_layers(self) -> bool:
        """Whether the encoder must be asked for its hidden states."""
        return self._field == "hidden_states"

    def take(self, output: Any) -> Tensor | None:
        """The embeddings, [b, positions, d], in what the module returned; [b, 1, d] where it has one for the prompt.

        None if the field is not there: the encoder was not asked for it, so nobody reads it either.
        """
        x = output
        if self._field:
            x = getattr(output, self._field, None)
            if x is None:
                return None
            if self._indices:
                x = torch.cat([x[i] for i in self._indices], dim=-1)
        elif isinstance(output, tuple):
            x = output[0]
        return x[:, None] if x.ndim == 2 else x

    def put(self, output: Any, x: Tensor) -> Any:
        """What the module returned, with the embeddings replaced by `x`. `output` itself is left as it is."""
        if not self._field:
            if isinstance(output, tuple):
                return (x.reshape(output[0].shape), *output[1:])
            return x.reshape(output.shape)
        old = getattr(output, self._field)
        if self._indices:
            new = list(old)
            for i, part in zip(self._indices, x.split([old[i].shape[-1] for i in self._indices], dim=-1), strict=True):
                new[i] = part
            value: Any = tuple(new)
        else:
            value = x.reshape(old.shape)
        return type(output)(**(dict(output.items()) | {self._field: value}))


def _find_module(encoder: nn.Module, path: str) -> tuple[str, nn.Module]:
    """The module at `path`, with or without `text_model` above it: that depends on the transformers version, and the
    path that is returned does not."""
    path = path.removeprefix("text_model.")
    for root in (encoder, getattr(encoder, "text_model", None)):
        if root is not None:
            with suppress(AttributeError):
                return path, root.get_submodule(path)
    names = ", ".join(name for name, _ in list(encoder.named_modules())[1:12])
    raise SnceError(f"{type(encoder).__name__} has no module {path!r}; it has {names}, ...")
