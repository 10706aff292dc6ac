"""Prompts as the encoder of a pipeline is handed them: through the pipeline's own templates, padding and masks."""

from __future__ import annotations

import warnings
from inspect import Parameter, signature
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ONCE = {"num_images_per_prompt": 1, "num_videos_per_prompt": 1, "num_waveforms_per_prompt": 1,
         "do_classifier_free_guidance": False}  # fmt: skip


class Tokens(NamedTuple):
    """Prompts for an encoder."""

    ids: Tensor
    """[n, positions]."""
    mask: Tensor | None = None
    """bool [n, positions]: what the encoder's attention may look at; None if the encoder is not told."""


def tokens_in(args: Sequence[Any], kwargs: dict[str, Any]) -> Tokens:
    """The tokens among the arguments of a call of a text encoder."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    if not isinstance(ids, Tensor):
        raise SnceError("the text encoder was called without token ids")
    return Tokens(ids, mask.bool() if isinstance(mask, Tensor) else None)


class _Enough(Exception):
    pass


@torch.no_grad()
def tokens_of_pipeline(pipe: Any, entry: nn.Module, prompts: Sequence[str], options: Mapping[str, Any]) -> Tokens:
    """What `pipe` hands to the module `entry` of one of its encoders for `prompts`. The encoder itself does not run.

    Args:
        options: of the pipeline's call, beside the prompts.

    Raises:
        SnceError: the pipeline did not come to this encoder, or does not know an option.
    """
    seen: list[Tokens] = []

    thread = get_ident()

    def take(_module: nn.Module, args: tuple, kwargs: dict[str, Any] | None = None) -> None:
        # others may draw with the same encoder meanwhile; their calls bring no kwargs once this hook is taken off
        if get_ident() != thread or kwargs is None:
            return
        seen.append(tokens_in(args, kwargs))
        raise _Enough

    handle = entry.register_forward_pre_hook(take, with_kwargs=True)
    try:
        pipe.encode_prompt(**_arguments(pipe, list(prompts), options))
    except _Enough:
        pass
    finally:
        handle.remove()
    if not seen:
        raise SnceError(f"{type(pipe).__name__} encodes prompts without the encoder that was to be read")
    ids, mask = seen[0]
    return Tokens(ids.cpu(), mask if mask is None else mask.cpu())


def _arguments(pipe: Any, prompts: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """For `encode_prompt`: what the pipeline passes when it is called with `prompts` and `options`."""
    known = signature(pipe.encode_prompt).parameters
    unknown = ", ".join(sorted(options.keys() - known.keys()))
    if unknown:
        raise SnceError(f"{type(pipe).__name__} encodes prompts without {unknown}")
    defaults = {n: p.default for n, p in signature(type(pipe).__call__).parameters.items() if n in known}
    given = {name: value for name, value in defaults.items() if value is not Parameter.empty}
    once = {name: value for name, value in _ONCE.items() if name in known}
    device = {"device": pipe._execution_device} if "device" in known else {}
    return given | once | device | dict(options) | {"prompt": prompts}


def truncated(prompts: Sequence[str], tokenizer: Any, positions: int) -> list[tuple[str, int]]:
    """Those prompts that have more tokens than `positions`, and how many they have."""
    # a token is at least one byte, so short texts need no second look
    suspects = [p for p in prompts if len(p.encode()) + 2 > positions]
    if not suspects:
        return []
    lengths = [len(ids) for ids in tokenizer(suspects, truncation=False, verbose=False).input_ids]
    return [(p, n) for p, n in zip(suspects, lengths, strict=True) if n > positions]


def warn_truncated(shown: Sequence[tuple[str, int]], count: int, positions: int, stacklevel: int) -> None:
    """Say that `count` prompts were cut, and which the first ones are.

    Args:
        shown: some of them, with their numbers of tokens.
        stacklevel: as `warnings.warn` takes it, seen from here: 2 is the caller.
    """
    if count:
        names = "; ".join(f"{p[:60]!r} ({n} tokens)" for p, n in shown)
        more = f" and {count - len(shown)} more" if count > len(shown) else ""
        warnings.warn(f"truncated to {positions} tokens: {names}{more}", stacklevel=stacklevel)
