"""Telling prompts from negative prompts: a text encoder is handed both, and is not told which is which."""

from __future__ import annotations

import sys
from functools import wraps
from inspect import signature, unwrap
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import CodeType, FrameType

    from snce.text.towers import TextTower


_UNREACHED = (
    "the eraser was not reached: {} ran without it. If the encoder was replaced, attach the eraser again. If it is "
    "compiled: set torch._dynamo.config.skip_nnmodule_hook_guards = False before anything is compiled, or do not "
    "compile it"
)
_TOO_OFTEN = (
    "{} ran more often than once for the prompts and once for the negative prompts, so that the eraser cannot tell "
    "them apart; attach it with edit_negative=True"
)
_UNSEEN = "ZImage"
"""Pipelines of this family do not come to `encode_prompt` when they are given embeddings."""


class Watched(Protocol):
    """Who wants to know."""

    tower: TextTower

    def expect(self, positive_calls: int | None) -> None: ...

    def was_missed(self) -> bool: ...

    def was_called_too_often(self) -> bool: ...


def check_guard(target: Any) -> None:
    """Raise SnceError if `watch_prompts` cannot refuse the embeddings that `target` is given."""
    if not hasattr(target, "encode_prompt"):
        raise SnceError("guard needs a pipeline: a text encoder alone is never handed prompt embeddings")
    if type(target).__name__.startswith(_UNSEEN):
        raise SnceError(
            f"guard cannot see the prompt embeddings that a {type(target).__name__} is given; attach without it, and "
            "let no caller pass prompt_embeds"
        )


def watch_prompts(pipe: Any, stations: Sequence[Watched], guard: bool) -> Callable[[], None]:
    """Tell the stations which of their encoders' calls within `pipe.encode_prompt` are for the prompt, and which for
    the negative prompt; refuse embeddings in place of prompts if `guard`. Returns the undoing.

    Most pipelines encode both in one call, the prompt first (unless its embeddings were given). Those of FLUX and
    Qwen-Image call `encode_prompt` again, with the negative prompt as the prompt. Watching a pipeline twice counts, and
    only the last undoing restores it.
    """
    watched: Any = pipe.__dict__.get("encode_prompt")
    if watched is None or not hasattr(watched, "watches"):
        watched = _watched(pipe, replaced=watched)
        pipe.encode_prompt = watched
    watch = (tuple(stations), guard)
    watched.watches.append(watch)

    def undo() -> None:
        watched.watches.remove(watch)
        if not watched.watches and pipe.__dict__.get("encode_prompt") is watched:
            if watched.replaced is None:
                del pipe.encode_prompt
            else:  # someone else's, put on the pipeline before
                pipe.encode_prompt = watched.replaced

    return undo


def _watched(pipe: Any, replaced: Any) -> Any:
    original = pipe.encode_prompt
    parameters = signature(original)
    call = unwrap(type(pipe).__call__).__code__
    watches: list[tuple[tuple[Watched, ...], bool]] = []

    @wraps(original)
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        arguments = parameters.bind(*args, **kwargs).arguments | kwargs
        negative = _is_negative(arguments, _caller(call, pipe))
        if not negative and any(guard for _, guard in watches):
            _refuse_embeddings(arguments)
        stations = [station for several, _ in watches for station in several]
        expected = [0 if negative else _positive_calls(station.tower, arguments) for station in stations]
        for station, calls in zip(stations, expected, strict=True):
            station.expect(calls)
        try:
            encoded = original(*args, **kwargs)
            for station, calls in zip(stations, expected, strict=True):
                if calls and station.was_missed():
                    raise SnceError(_UNREACHED.format(station.tower.place))
                if station.was_called_too_often():
                    raise SnceError(_TOO_OFTEN.format(station.tower.place))
            return encoded
        finally:
            for station in stations:
                station.expect(None)

    vars(encode_prompt).update(watches=watches, replaced=replaced)
    return encode_prompt


def _positive_calls(tower: TextTower, arguments: Mapping[str, Any]) -> int:
    if _given(arguments.get("prompt_embeds")):
        return 0
    if arguments.get("clip_skip") is None:
        return 1
    if tower.reading.is_field:
        raise SnceError(
            f"clip_skip makes the pipeline read another layer than {tower.path}, which the eraser edits: leave it out, "
            "or detach the eraser"
        )
    return 2  # the pipeline calls the final norm once more, on the hidden state that it chose


def _refuse_embeddings(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if name.endswith("prompt_embeds") and not name.startswith("negative") and _given(value):
            raise SnceError(
                f"{name} is refused by the eraser's guard, which cannot see what concept it holds: pass the prompt, or "
                "edit the embeddings with eraser.edit(...) and attach without guard"
            )


def _given(embeddings: Any) -> bool:
    return isinstance(embeddings, Tensor) or (isinstance(embeddings, list) and len(embeddings) > 0)


def _caller(call: CodeType, pipe: Any) -> FrameType | None:
    """The frame of the pipeline's own call that we are in, if we are."""
    frame = sys._getframe(2)
    for _ in range(8):  # wrappers of others may lie between
        if frame.f_code is call and frame.f_locals.get("self") is pipe:
            return frame
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def _is_negative(arguments: Mapping[str, Any], caller: FrameType | None) -> bool:
    """Whether the pipeline passes its negative prompt where a prompt goes. In doubt it is a prompt, and edited."""
    if caller is None:
        return False
    prompt, negative = arguments.get("prompt"), caller.f_locals.get("negative_prompt")
    if prompt is None:  # embeddings were given
        negative_embeds = caller.f_locals.get("negative_prompt_embeds")
        return negative_embeds is not None and arguments.get("prompt_embeds") is negative_embeds
    return negative is not None and prompt is negative and prompt is not caller.f_locals.get("prompt")
