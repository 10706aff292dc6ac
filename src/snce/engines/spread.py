"""The one way to spread work: a function, items, and the name of an engine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    T = TypeVar("T")

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Crew:
    """Who does the work."""

    workers: int = 1
    engine: Engine = "local"

    @property
    def is_this_process(self) -> bool:
        return self.engine == "local" and self.workers == 1


def spread(
    engine: Engine,
    workers: int,
    start: Callable[..., None],
    arguments: tuple[Any, ...],
    work: Callable[..., T],
    items: Iterable[tuple],
    gpu: bool = False,
) -> Iterator[T]:
    """What `work(*item)` returns for each of `items`, as they are done: in any order.

    Every worker is a process with one thread of PyTorch, on either engine, so that both give the same bits. Functions,
    arguments and results travel by pickle between processes of one user; nothing of it is kept.

    Args:
        workers: processes.
        start: is called with `arguments` once in each, before its work.
        items: is read as workers get free.
        gpu: on Ray, whether a worker takes a GPU for itself, if the cluster has any.

    Raises:
        SnceError: what `start` or `work` raise; a worker that was lost (`local`: once; `ray`: again and again); an
            engine that is not installed.
    """
    if engine == "ray":
        from snce.engines.ray import in_actors

        return in_actors(workers, start, arguments, work, items, gpu)
    from snce.engines.local import in_processes

    return in_processes(workers, start, arguments, work, items)


def check_engine(engine: str, workers: int | None) -> None:
    """Before any work.

    Raises:
        SnceError: fewer than one worker, an unknown engine, or one that is not installed.
    """
    if workers is not None and workers < 1:
        raise SnceError(f"--workers {workers} must be at least 1")
    if engine not in ("local", "ray"):
        raise SnceError(f"--engine {engine} is not one of local, ray")
    if engine == "ray":
        from snce.engines.ray import check_installed

        check_installed()


def workers_of(engine: Engine, workers: int | None) -> int | None:
    """How many processes to work in: for Ray, one per core of this machine if not given; None for this process."""
    return os.cpu_count() or 1 if engine == "ray" and workers is None else workers


def check_same(here: Mapping[str, str], driver: Mapping[str, str]) -> None:
    """For a worker, which opens models and files by their names: they may mean something else on its machine.

    Args:
        here: what it has opened, by fingerprints.
        driver: what the process that started it has.

    Raises:
        SnceError: they differ.
    """
    other = [
        f"{what} {here.get(what, 'missing')} in place of {driver.get(what, 'none')}"
        for what in {**driver, **here}
        if here.get(what) != driver.get(what)
    ]
    if other:
        raise SnceError(
            f"the worker on {platform.node()} has other files under the same names: {', '.join(other)}; put the same "
            "files on all machines (of a hub name, the cache of one may hold an older revision)"
        )


def for_all_workers(name: str) -> str:
    """The name of a file, folder or model for processes that may run elsewhere; hub names stay what they are."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name
