"""Work for workers: they find it by its name, in this file."""

from __future__ import annotations

import os
import signal
import threading

from snce.commands import harvest
from snce.errors import SnceError

_begun: list[str] = []


def start(name: str) -> None:
    _begun.append(name)


def square(number: int) -> tuple[int, int, list[str], int]:
    """(number, its square, what this process was begun with, its threads)."""
    import torch

    return number, number**2, _begun, torch.get_num_threads()


def refuse(number: int) -> int:
    if number == 3:
        raise SnceError("the third is refused")
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse_to_start(name: str) -> None:
    raise SnceError(f"{name} cannot be begun")


FATAL = 8
"""The block at which it happens: by then, two workers have handed in one at least."""


class MortalWorker(harvest._Worker):
    """A worker of `snce harvest` that is killed at its work."""

    @classmethod
    def encode(cls, number, tokens):
        if number == FATAL:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(number, tokens)


# -- work that is interrupted ------------------------------------------------------------------------------------------


def busy(*_: object) -> None:
    """Get a Ctrl-C, say "busy", and never end."""
    signal.raise_signal(signal.SIGINT)
    print("busy", flush=True)
    threading.Event().wait()


class Endless:
    """An argument that never arrives: whoever unpickles it is busy."""

    def __reduce__(self) -> tuple:
        return busy, ()


def only_the_first(number: int) -> int:
    if number > 0:
        busy()
    return number


def half_a_result(number: int) -> bytes:
    """What a process returns that stops within sending it."""
    from multiprocessing.connection import Connection

    def send(self: Connection, data: bytes) -> None:
        os.write(self.fileno(), bytes(data[: len(data) // 2]))
        busy()

    Connection._send = send  # pyright: ignore[reportAttributeAccessIssue]
    return bytes(number)


class BusyWorker(harvest._Worker):
    """A worker of `snce harvest` that encodes the first block only."""

    @classmethod
    def encode(cls, number, tokens):
        return super().encode(only_the_first(number), tokens)
