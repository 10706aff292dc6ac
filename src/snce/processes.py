"""Work in several processes, a thread each: pictures as small as Emblem's gain little from more threads."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    T = TypeVar("T")


def in_processes(
    workers: int, start: Callable[..., None], arguments: tuple[Any, ...], work: Callable[..., T], items: Iterable[tuple]
) -> Iterator[T]:
    """What `work(*item)` returns for each of `items`, as they are done.

    Args:
        start: is called with `arguments` once in each process, before its work.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (start, arguments)) as pool:
        try:
            for future in as_completed([pool.submit(work, *item) for item in items]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
    start(*arguments)


def end_with_parent() -> None:
    """Make this process end with the one that started it: a pool's workers would outlive a killed parent."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
