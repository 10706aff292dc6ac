"""Looking into a text encoder while a pipeline runs, and changing what a module of it puts out."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diffusers import DiffusionPipeline

    from tests.pipelines.hook_points import HookPoint

    Change = Callable[[int, Tensor], Tensor]


@dataclass
class Seen:
    """Of each call in order: token ids [n, positions], the mask if one was given, and what the module put out."""

    tokens: list[Tensor] = field(default_factory=list)
    masks: list[Tensor | None] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


def submodule(root: nn.Module, path: str) -> nn.Module:
    """As `get_submodule`, and counts layers from the end too."""
    for name in path.split("."):
        root = root[int(name)] if isinstance(root, nn.ModuleList) else getattr(root, name)
    return root


@contextmanager
def spy(
    pipe: DiffusionPipeline,
    point: HookPoint,
    change: Change | None = None,
    as_field: bool = False,
    prepend: bool = True,
) -> Iterator[Seen]:
    """Watch the module of a hook point, or with `as_field` the field of the encoder's output.

    `change(call, output)` gives what takes the place of the output; calls of the module count from 0.
    """
    encoder = getattr(pipe, point.encoder)
    entry = encoder if point.output else encoder.text_model  # CLAP itself is never called
    seen = Seen()

    def enter(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        given = signature(type(module).forward).bind(module, *args, **kwargs).arguments
        given = given | given.get("kwargs", {})
        seen.tokens.append(given["input_ids"])
        seen.masks.append(given.get("attention_mask"))

    def changed(output: Tensor) -> Tensor:
        after = change(len(seen.outputs), output) if change else output
        seen.outputs.append(after)
        return after

    def leave_module(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return changed(output)

    def leave_encoder(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        name, *index = point.output
        if index:
            states, i = list(output[name]), int(index[0])
            states[i] = changed(states[i])
            output[name] = tuple(states)
        else:
            output[name] = changed(output[name])
        return output

    handles = [entry.register_forward_pre_hook(enter, with_kwargs=True)]
    if as_field:
        handles.append(entry.register_forward_hook(leave_encoder))
    else:
        handles.append(submodule(encoder, point.module).register_forward_hook(leave_module, prepend=prepend))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def padding(tokens: Tensor, tokenizer: Any) -> Tensor:
    """Which positions are padding, bool [n, positions]."""
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if isinstance(tokenizer, CLIPTokenizer):  # pads with the end token, or with a token that a prompt may hold
        end = (tokens == tokenizer.eos_token_id).int().argmax(-1, keepdim=True)
        return torch.arange(tokens.shape[-1]) > end
    return tokens == tokenizer.pad_token_id


def _tokens(tokens: Tensor, tokenizer: Any) -> Tensor:
    return (~padding(tokens[None], tokenizer)[0]).nonzero().flatten()


TAKES: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "all": lambda tokens, _tokenizer: torch.arange(len(tokens)),
    "tokens": _tokens,
    "tokens from the 35th": lambda tokens, tokenizer: _tokens(tokens, tokenizer)[34:],
    "the first and the last 299": lambda tokens, _: torch.tensor([0, *range(len(tokens) - 299, len(tokens))]),
    "end": lambda tokens, tokenizer: (tokens == tokenizer.eos_token_id).nonzero()[0, 0],
}
"""From the token ids [positions] of one prompt and the tokenizer to the positions that the denoiser receives."""


def taken(pipe: DiffusionPipeline, point: HookPoint, output: Tensor, tokens: Tensor) -> Tensor:
    """What of one prompt's output the denoiser receives: [m, d], or [d] where it is one vector."""
    tokenizer = getattr(pipe, point.tokenizer)
    return output if output.ndim == 1 else output[TAKES[point.takes](tokens, tokenizer)]
