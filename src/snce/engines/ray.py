"""Work in actors of a Ray cluster, a thread each. An actor that is lost is made again, and its work with it.

A pool of actors and not Ray Data: an item here is a piece of work with a place of its own (a block of prompts, a
picture, a cell of the benchmark), done or not done. The driver hands items out in its own order, each is tried again by
itself, and neither pandas nor pyarrow is needed. In time, either costs little (docs/scale.md has figures).
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    T = TypeVar("T")

_AHEAD = 2
"""Items per actor that are handed out at once: one in work, one on its way."""
_TRIES_AGAIN = 3
"""How often an item is given to another process after the loss of its own. Others may be lost any number of times."""
_PATIENCE = 30.0
"""Seconds without a single actor, after which the user is told what is waited for."""


def check_installed() -> None:
    """
    Raises:
        SnceError: Ray is not installed.
    """
    try:
        import ray  # noqa: F401  # pyright: ignore[reportMissingImports]  # of the extra ray
    except ImportError as error:
        raise SnceError("--engine ray needs Ray, which is not installed: pip install 'snce[ray]'") from error


def in_actors(
    workers: int,
    start: Callable[..., None],
    arguments: tuple[Any, ...],
    work: Callable[..., T],
    items: Iterable[tuple],
    gpu: bool = False,
) -> Iterator[T]:
    """What `work(*item)` returns for each of `items`, as they are done.

    Runs on the cluster that RAY_ADDRESS names or this machine belongs to (`ray start`); where there is none, on one of
    this machine alone, which ends with the work. Warns if the cluster has had no room for an actor for half a minute.

    Args:
        start: is called with `arguments` once in each actor, before its work, and again in one that is made anew.
        gpu: whether an actor takes a GPU for itself, if the cluster has any.

    Raises:
        SnceError: Ray is not installed; the cluster cannot be reached; an item's process was lost time and again.
    """
    check_installed()
    import ray  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError, RayTaskError  # pyright: ignore[reportMissingImports]

    with _cluster(workers):
        gpus = 1 if gpu and ray.cluster_resources().get("GPU", 0) else 0
        kind = ray.remote(_Actor).options(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=_TRIES_AGAIN)
        actors = [kind.remote(start, arguments) for _ in range(workers)]
        waiting, more = iter(items), True
        # an actor for which the cluster has no room yet gets no work; the others do it
        arriving = {actor.is_there.remote(): actor for actor in actors}
        running: dict[Any, Any] = {}
        patience: float | None = _PATIENCE
        try:
            while running or (arriving and more):
                done, _ = ray.wait([*running, *arriving], timeout=patience)
                patience = None  # there is an actor, or the user knows
                if not done:
                    _warn_of_waiting(workers, gpus)
                    continue
                (ref,) = done
                result = ray.get(ref)
                is_new = ref in arriving
                actor, room = (arriving.pop(ref), _AHEAD) if is_new else (running.pop(ref), 1)
                handed_out = [actor.run.remote(work, item) for item in islice(waiting, room)]
                more = len(handed_out) == room
                running |= dict.fromkeys(handed_out, actor)
                if not is_new:
                    yield result
        except RayTaskError as error:
            if isinstance(error.cause, SnceError):
                raise SnceError(str(error.cause)) from error
            raise
        except RayError as error:
            raise SnceError(
                f"work on the Ray cluster was lost, {_TRIES_AGAIN + 1} times on end ({type(error).__name__}; was "
                "memory short?): run the same command again, it goes on from what is there, with fewer --workers if "
                "need be"
            ) from error
        finally:
            for actor in actors:
                ray.kill(actor)


def _warn_of_waiting(workers: int, gpus: int) -> None:
    import ray  # pyright: ignore[reportMissingImports]

    has, free = ray.cluster_resources(), ray.available_resources()
    kinds = ("CPU", "GPU") if gpus else ("CPU",)
    each = " and ".join(f"1 {kind}" for kind in kinds)
    there = " and ".join(f"{free.get(kind, 0):g} of {has.get(kind, 0):g} {kind}s" for kind in kinds)
    warnings.warn(
        f"no worker has begun after {_PATIENCE:g} s: {workers} are asked for, each with {each}; on the Ray cluster, "
        f"{there} are free. The work begins when the first has room and is ready (`ray status` tells what is in use)",
        stacklevel=3,
    )


class _Actor:
    def __init__(self, start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._start, self._arguments, self._started = start, arguments, False

    def is_there(self) -> None:
        pass

    def run(self, work: Callable[..., Any], item: tuple[Any, ...]) -> Any:
        if not self._started:  # not in __init__: what that raises arrives as the death of the actor
            import torch

            torch.set_num_threads(1)
            self._start(*self._arguments)
            self._started = True
        return work(*item)


@contextmanager
def _cluster(workers: int) -> Iterator[None]:
    import ray  # pyright: ignore[reportMissingImports]

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    quiet: Any = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        try:
            ray.init(os.environ.get("RAY_ADDRESS") or "auto", **quiet)
        except ConnectionError:
            if os.environ.get("RAY_ADDRESS"):
                raise
            cores = max(workers, os.cpu_count() or 1)
            ray.init("local", num_cpus=cores, include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SnceError(f"cannot reach or start a Ray cluster: {' '.join(str(error).split())[:300]}") from error
    try:
        yield
    finally:
        ray.shutdown()
