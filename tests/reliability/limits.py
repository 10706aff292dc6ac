"""Limits under which a piece of work must be done: CPU seconds, and memory."""

from __future__ import annotations

import signal
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Hang(BaseException):
    """No `Exception`: no parser may catch it."""


@contextmanager
def cpu_seconds(most: float) -> Iterator[None]:
    """Raise `Hang` if the block takes more CPU time than that, however busy the machine is."""

    def give_up(*_: object) -> None:
        raise Hang(f"more than {most} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class Peak:
    """Of the memory that Python allocates, in bytes. What torch, safetensors and pyarrow take by themselves is not in
    it: `tests.reliability.memory` measures whole processes."""

    value = 0


@contextmanager
def traced() -> Iterator[Peak]:
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.value = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
