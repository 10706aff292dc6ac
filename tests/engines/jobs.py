"""Work for workers: they find it by its name, in this file."""

from __future__ import annotations

import os
import signal

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
