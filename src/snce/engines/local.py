"""Work in several processes of this machine, a thread each: a picture as small as Emblem's gains little from more."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    T = TypeVar("T")

_AHEAD = 2
"""Items per worker that are handed out at once: one in work, one waiting. Millions need not be in memory."""


def in_processes(
    workers: int, start: Callable[..., None], arguments: tuple[Any, ...], work: Callable[..., T], items: Iterable[tuple]
) -> Iterator[T]:
    """What `work(*item)` returns for each of `items`, as they are done.

    Args:
        start: is called with `arguments` once in each process, before its work.

    Raises:
        SnceError: what `start` or `work` raise; a process was killed, by the system when memory ran out, say.
    """
    context = multiprocessing.get_context("spawn")
    waiting = iter(items)
    with ProcessPoolExecutor(workers, context, _begin, (start, arguments)) as pool:
        try:
            running = {pool.submit(_run, work, item) for item in islice(waiting, _AHEAD * workers)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_run, work, item) for item in islice(waiting, len(done))}
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise SnceError(
                "a worker process ended before its work was done (was memory short?): run the same command again, it "
                "goes on from what is there, with fewer --workers if need be"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_refusals: list[Exception] = []
"""What `start` raised in this process. The pool would print it, and tell its caller of a broken process only."""


def _begin(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
    try:
        start(*arguments)
    except Exception as error:
        _refusals.append(error)


def _run(work: Callable[..., T], item: tuple[Any, ...]) -> T:
    if _refusals:
        raise _refusals[0]
    return work(*item)


def end_with_parent() -> None:
    """Make this process end with the one that started it: a pool's workers would outlive a killed parent."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
