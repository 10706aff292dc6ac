"""Edits within calls of a text encoder, by the clock."""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snce.erase.eraser import ConceptEraser
    from snce.text.towers import TextTower

AGAIN = "none, again"


def in_place(
    tower: TextTower, ids: Any, erasers: dict[str, ConceptEraser], peers: dict[str, Any], kinds: Any, rounds: int
) -> dict[str, list[float]]:
    """CPU seconds from before the edit to after it, within calls of the encoder."""
    seconds: dict[str, list[float]] = {name: [] for name in (*erasers, *peers)}
    begun = [0.0]

    def begin(*_: object) -> None:
        begun[0] = time.process_time()

    for _ in range(rounds):
        for name, times in seconds.items():
            with ExitStack() as stack:
                if name in erasers:
                    stack.enter_context(erasers[name].attach(tower))
                else:
                    edit = peers[name].edit
                    hook = tower.module.register_forward_hook(lambda _m, _i, x, edit=edit: edit(x, kinds))
                    stack.callback(hook.remove)
                spent: list[float] = []
                hooks = (
                    tower.module.register_forward_hook(begin, prepend=True),
                    tower.module.register_forward_hook(
                        lambda *_, spent=spent: spent.append(time.process_time() - begun[0])
                    ),
                )
                for hook in hooks:
                    stack.callback(hook.remove)
                for _ in range(2):
                    tower.encoder(ids)
                times.append(spent[-1])
    return seconds


def whole_calls(
    tower: TextTower, ids: Any, erasers: dict[str, ConceptEraser], rounds: int, calls: int
) -> dict[str, list[float]]:
    """CPU seconds of a call, by eraser; "none" and `AGAIN` without one."""
    seconds: dict[str, list[float]] = {name: [] for name in ("none", AGAIN, *erasers)}
    for i in range(rounds):
        for name in list(seconds)[:: 1 if i % 2 else -1]:  # so that none always comes after the same other
            with erasers[name].attach(tower) if name in erasers else nullcontext():
                tower.encoder(ids)
                start = time.process_time()
                for _ in range(calls):
                    tower.encoder(ids)
                seconds[name].append((time.process_time() - start) / calls)
    return seconds
