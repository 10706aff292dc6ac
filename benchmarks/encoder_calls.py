"""Edits within calls of a pipeline's text encoder, by the clock."""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from snce.erase.eraser import ConceptEraser
    from snce.text.towers import TextTower

AGAIN = "none, again"


class Call(NamedTuple):
    """CPU seconds within one call of `encode_prompt`."""

    edit: float
    watching: float
    """What goes on around the pipeline's own `encode_prompt` while an eraser is attached to the pipeline."""
    encoder: float
    """The text encoder without the edit."""


def call_of(pipe: Any, prompt: str) -> Callable[[], Any]:
    """Encodes one prompt, and no negative one."""
    return lambda: pipe.encode_prompt(prompt, "cpu", 1, False)


def in_place(
    pipe: Any, tower: TextTower, prompt: str, erasers: dict[str, ConceptEraser], peers: dict[str, Any], kinds: Any,
    rounds: int,
) -> dict[str, list[Call]]:  # fmt: skip
    """Of the second of two calls, by what is attached to the pipeline (erasers) or hooked to its encoder (peers)."""
    calls: dict[str, list[Call]] = {name: [] for name in (*erasers, *peers)}
    encode = call_of(pipe, prompt)
    for _ in range(rounds):
        for name, its in calls.items():
            with ExitStack() as stack:
                spent = _own_call(pipe, stack)
                if name in erasers:
                    stack.enter_context(erasers[name].attach(pipe))
                else:
                    edit = peers[name].edit
                    hook = tower.module.register_forward_hook(lambda _m, _i, x, edit=edit: edit(x, kinds))
                    stack.callback(hook.remove)
                _time(tower.module, stack, spent, "edit", only_hooks=True)
                _time(tower.encoder, stack, spent, "encoder", only_hooks=False)
                encode()
                start = time.process_time()
                encode()
                whole = time.process_time() - start
                its.append(Call(spent["edit"], whole - spent["own call"], spent["encoder"] - spent["edit"]))
    return calls


def _own_call(pipe: Any, stack: ExitStack) -> dict[str, float]:
    """The clock around the pipeline's own `encode_prompt`: what is attached afterwards comes to lie around it."""
    own, spent = pipe.encode_prompt, {}

    @wraps(own)
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        encoded = own(*args, **kwargs)
        spent["own call"] = time.process_time() - start
        return encoded

    pipe.encode_prompt = encode_prompt
    stack.callback(delattr, pipe, "encode_prompt")
    return spent


def _time(module: Any, stack: ExitStack, spent: dict[str, float], name: str, only_hooks: bool) -> None:
    """The clock around a module, or around the hooks on it that there are."""
    start = 0.0

    def begin(*_: object) -> None:
        nonlocal start
        start = time.process_time()

    def end(*_: object) -> None:
        spent[name] = time.process_time() - start

    first = module.register_forward_hook if only_hooks else module.register_forward_pre_hook
    for hook in (first(begin, prepend=True), module.register_forward_hook(end)):
        stack.callback(hook.remove)


def whole_calls(
    pipe: Any, prompt: str, erasers: dict[str, ConceptEraser], rounds: int, calls: int
) -> dict[str, list[float]]:
    """CPU seconds of a call of `encode_prompt`, by the eraser on the pipeline; "none" and `AGAIN` without one."""
    seconds: dict[str, list[float]] = {name: [] for name in ("none", AGAIN, *erasers)}
    encode = call_of(pipe, prompt)
    for i in range(rounds):
        for name in list(seconds)[:: 1 if i % 2 else -1]:  # so that none always comes after the same other
            with erasers[name].attach(pipe) if name in erasers else nullcontext():
                encode()
                start = time.process_time()
                for _ in range(calls):
                    encode()
                seconds[name].append((time.process_time() - start) / calls)
    return seconds
