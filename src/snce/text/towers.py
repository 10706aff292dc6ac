"""Text towers: the module whose output a pipeline's denoiser reads, with the tokenizer that feeds it."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snce.errors import SnceError
from snce.text.edits import unedited
from snce.text.positions import kinds_of_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class TowerRow:
    """One row of the table: where a pipeline class keeps an encoder, its tokenizer, and the module to hook."""

    encoder: str
    tokenizer: str
    module: str


TOWERS: dict[str, tuple[TowerRow, ...]] = {
    # SD 1.x and 2.x read last_hidden_state after the final norm, also with clip_skip
    "StableDiffusionPipeline": (TowerRow("text_encoder", "tokenizer", "final_layer_norm"),),
    "StableDiffusionImg2ImgPipeline": (TowerRow("text_encoder", "tokenizer", "final_layer_norm"),),
    "StableDiffusionInpaintPipeline": (TowerRow("text_encoder", "tokenizer", "final_layer_norm"),),
}


class TextTower:
    """A text encoder with its tokenizer, read at one module.

    Args:
        encoder: a `transformers` text model.
        tokenizer: its tokenizer.
        module: dotted path, inside the encoder, of the module whose output the denoiser reads.
        name: attribute under which a pipeline holds the encoder.
        pipeline: class name of that pipeline; empty for a bare encoder.

    Raises:
        SnceError: the encoder has no such module.
    """

    def __init__(
        self, encoder: nn.Module, tokenizer: Any, module: str, name: str = "text_encoder", pipeline: str = ""
    ) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.name = name
        self.pipeline = pipeline
        self.path, self.module = _find_module(encoder, module)

    @classmethod
    def from_pipeline(cls, pipe: Any) -> TextTower:
        """The tower of a diffusers pipeline whose class is in `TOWERS`.

        Raises:
            SnceError: the class is not in the table.
        """
        kind = type(pipe).__name__
        if kind not in TOWERS:
            known = ", ".join(sorted(TOWERS))
            raise SnceError(
                f"{kind} is not a known pipeline ({known}); name its parts yourself: "
                "TextTower(pipe.text_encoder, pipe.tokenizer, module='...')"
            )
        row = TOWERS[kind][0]
        return cls(getattr(pipe, row.encoder), getattr(pipe, row.tokenizer), row.module, row.encoder, kind)

    @property
    def positions(self) -> int:
        """Token positions per prompt, padding included."""
        return int(self.tokenizer.model_max_length)

    @cached_property
    def width(self) -> int:
        """d: numbers per token embedding."""
        return self.encode(["a"]).shape[-1]

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of the encoder's weights, the same for any float dtype that holds them exactly."""
        return weights_fingerprint(self.encoder)

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Token ids [n, positions], padded as the pipelines pad.

        Warns where a prompt is longer than the encoder takes, naming it.
        """
        prompts = list(prompts)
        kept = self.tokenizer(prompts, padding="max_length", truncation=True, max_length=self.positions,
                              return_tensors="pt").input_ids  # fmt: skip
        _warn_truncated(prompts, self.tokenizer, self.positions)
        return kept

    def encode(self, prompts: Sequence[str], edited: bool = False) -> Tensor:
        """Token embeddings [n, positions, d]: the encoder's own, or with `edited` what the denoiser receives, after
        whatever is attached."""
        return self.encode_tokens(self.tokenize(prompts), edited)

    @torch.no_grad()
    def encode_tokens(self, tokens: Tensor, edited: bool = False) -> Tensor:
        """The same for token ids [n, positions]."""
        seen: list[Tensor] = []

        def take(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)

        handle = self.module.register_forward_hook(take)
        try:
            with nullcontext() if edited else unedited():
                self.encoder(tokens.to(next(self.encoder.parameters()).device))
        finally:
            handle.remove()
        if not seen:
            raise SnceError(f"module {self.path!r} of {type(self.encoder).__name__} did not run in a forward pass")
        return seen[-1]

    def kinds(self, tokens: Tensor) -> Tensor:
        """What stands at each position, uint8 [n, positions]: see `snce.text.positions`."""
        return kinds_of_tokens(tokens, self.tokenizer)


def weights_fingerprint(model: nn.Module) -> str:
    """16 hex digits of the hash of a model's floating-point weights, rounded to float16."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if value.is_floating_point():
            # where an encoder nests its parts depends on the transformers version
            digest.update(key.removeprefix("text_model.").encode())
            # a copy cast to half precision is still the same model
            digest.update(value.detach().cpu().to(torch.float16).numpy().tobytes())  # in order, whatever the layout
    return digest.hexdigest()[:16]


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


def _warn_truncated(prompts: list[str], tokenizer: Any, positions: int) -> None:
    # a token is at least one byte, so short texts need no second look
    suspects = [p for p in prompts if len(p.encode()) + 2 > positions]
    if not suspects:
        return
    lengths = [len(ids) for ids in tokenizer(suspects, truncation=False, verbose=False).input_ids]
    long = [(p, n) for p, n in zip(suspects, lengths, strict=True) if n > positions]
    if long:
        shown = "; ".join(f"{p[:60]!r} ({n} tokens)" for p, n in long[:3])
        more = f" and {len(long) - 3} more" if len(long) > 3 else ""
        warnings.warn(f"truncated to {positions} tokens: {shown}{more}", stacklevel=3)
