"""Work in several processes of this machine, a thread each: a picture as small as Emblem's gains little from more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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

    Ctrl-C, which a terminal sends to all processes, is heard by this one alone. It ends the others, whatever they are
    doing; so does a caller who wants no more of the results.

    Args:
        start: is called with `arguments` once in each process, before its work.

    Raises:
        SnceError: what `start` or `work` raise; a process was killed, by the system when memory ran out, say.
    """
    context = multiprocessing.get_context("spawn")
    waiting = iter(items)
    with ProcessPoolExecutor(workers, context, _begin, (start, arguments)) as pool:
        try:
            running = {_hand_out(pool, work, item) for item in islice(waiting, _AHEAD * workers)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {_hand_out(pool, work, item) for item in islice(waiting, len(done))}
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise SnceError(
                "a worker process ended before its work was done (was memory short?): run the same command again, it "
                "goes on from what is there, with fewer --workers if need be"
            ) from error
        except (KeyboardInterrupt, GeneratorExit):
            _end_at_once(pool)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _hand_out(pool: ProcessPoolExecutor, work: Callable[..., T], item: tuple[Any, ...]) -> Future[T]:
    with _deaf_children():  # the pool begins a process when there is work for it
        return pool.submit(_run, work, item)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are begun meanwhile never hear of Ctrl-C: a child inherits what its parent blocks. If it were for
    them to ignore it, it would end them, with a traceback, until they have loaded Python and all that they are sent."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # if it came meanwhile, it is heard here


def _end_at_once(pool: ProcessPoolExecutor) -> None:
    """Kill the workers: the pool would wait for what they are at, which may take minutes."""
    for process in list((pool._processes or {}).values()):
        process.kill()
    # one may have been sending a result, and while there is anyone to write, the pool waits for the rest of it
    pool._result_queue._writer.close()  # pyright: ignore[reportAttributeAccessIssue]


_refusals: list[Exception] = []
"""What `start` raised in this process. The pool would print it, and tell its caller of a broken process only."""


def _begin(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Windows: see `_deaf_children`
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
