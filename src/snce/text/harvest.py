"""Run prompts through a tower and keep their token embeddings, in memory or in an on-disk cache that resumes."""

from __future__ import annotations

import errno
import hashlib
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.errors import SnceError
from snce.text.blocks import TokenBlocks
from snce.text.store import EmbeddingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from rich.progress import Progress

    from snce.text.tokens import Tokens
    from snce.text.towers import TextTower

    Encode = Callable[[Iterable[tuple[int, Tokens]]], Iterable[tuple[int, np.ndarray]]]
    """From numbered blocks of tokens to their embeddings, float16 [n, positions, d], in any order."""


@dataclass(frozen=True)
class Embeddings:
    """Token embeddings of a set of prompts."""

    x: Tensor
    """[n, positions, d], float16 where it comes from the cache (memory-mapped)."""
    kinds: Tensor
    """What stands at each position, uint8 [n, positions]: see `snce.text.positions`."""

    def __len__(self) -> int:
        return len(self.x)

    def halves(self) -> tuple[Embeddings, Embeddings]:
        """Every other prompt, and the rest: so both halves hold every kind of prompt in a list sorted by kind."""
        return Embeddings(self.x[::2], self.kinds[::2]), Embeddings(self.x[1::2], self.kinds[1::2])

    def __post_init__(self) -> None:
        if self.x.ndim != 3 or self.kinds.shape != self.x.shape[:2]:
            raise SnceError(
                f"embeddings must be [n, positions, d] with kinds [n, positions], not {tuple(self.x.shape)} and "
                f"{tuple(self.kinds.shape)}"
            )


def harvest(
    tower: TextTower,
    prompts: Sequence[str],
    cache: str | Path | None = None,
    batch_size: int = 256,
    progress: bool = False,
    verify: bool = False,
    encode: Encode | None = None,
) -> Embeddings:
    """Embeddings of `prompts`, in their order.

    Args:
        cache: folder for the embeddings as float16. They are written a batch at a time, each with a checksum; a run
            that was killed goes on where it stopped, a complete one is not computed again. Another encoder or other
            prompts get another file. Of two processes with one cache, the second waits for the first.
        batch_size: prompts that are encoded at once; a cache keeps that which it was begun with.
        verify: check all of a complete cache against its checksums. Left out, that is done for caches that are not
            complete, or were written to since. What is damaged is encoded anew, with a warning.
        encode: what computes the embeddings of blocks of prompts (`encode_blocks` of another process, say), in place of
            the tower; for caches only.

    Raises:
        SnceError: no prompts; a batch size below 1; NaN or infinity among the embeddings; a cache that cannot be
            written, or a disk without room for it.
    """
    if len(prompts) == 0:
        raise SnceError("no prompts to harvest")
    if batch_size < 1:
        raise SnceError(f"batch_size = {batch_size} must be at least 1")
    tokens = TokenBlocks(tower, prompts)
    if cache is None:
        starts = range(0, len(prompts), batch_size)
        with _bar(progress) as bar:
            batches = bar.track(starts, description="text embeddings")
            parts = [_checked(tower.encode_tokens(tokens[i : i + batch_size])).float().cpu() for i in batches]
        return Embeddings(torch.cat(parts), tokens.kinds)

    key = hashlib.sha256(f"{tower.fingerprint} {tower.path} {tokens.digest}".encode()).hexdigest()[:16]
    folder, shape = Path(cache) / key, (len(prompts), tokens.kinds.shape[1], tower.width)
    try:
        store = EmbeddingStore(folder, shape, batch_size)
        if verify or not store.is_finished():
            folder.mkdir(parents=True, exist_ok=True)
            with _alone_in(folder):
                store = EmbeddingStore(folder, shape, batch_size)  # another process may have written to it
                if verify or not store.is_finished():
                    _fill(store, tokens, encode or (lambda blocks: encode_blocks(tower, blocks)), progress)
        return Embeddings(store.read(), tokens.kinds)
    except OSError as error:
        raise SnceError(
            f"cannot use the cache {cache}: {error.strerror or error}; nothing that it holds is lost"
        ) from error


def encode_blocks(tower: TextTower, blocks: Iterable[tuple[int, Tokens]]) -> Iterator[tuple[int, np.ndarray]]:
    """The embeddings of each block of tokens, float16 [n, positions, d].

    Raises:
        SnceError: NaN or infinity among them.
    """
    for i, tokens in blocks:
        yield i, _checked(tower.encode_tokens(tokens).half()).cpu().numpy()


def _fill(store: EmbeddingStore, tokens: TokenBlocks, encode: Encode, progress: bool) -> None:
    """Check what is there, and encode what is not, or is damaged."""
    with _bar(progress) as bar:
        found = dict(bar.track(store.sound(), total=store.blocks, description="checksums"))
        missing = [i for i in range(store.blocks) if not found.get(i)]
        again = store.blocks if store.is_foreign() else sum(not is_sound for is_sound in found.values())
        if again:
            warnings.warn(
                f"the cache {store.folder} is damaged, or of a version without checksums: {again} of {store.blocks} "
                "blocks of prompts are encoded anew",
                stacklevel=3,
            )
        if not missing and store.has_header():
            with suppress(SnceError):  # the folder may be on a medium that takes no files
                store.finish()
            return
        with store:
            store.forget(missing)
            task = bar.add_task("text embeddings", total=store.blocks, completed=store.blocks - len(missing))
            for i, x in encode((i, tokens[store.rows(i)]) for i in missing):
                store.put(i, x)
                bar.advance(task)
            store.finish()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time; the others wait, and say so. The lock goes with the process that holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warnings.warn(f"waiting for another process that is writing to the cache {folder}", stacklevel=4)
        lock.acquire()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        # nobody can write here; one who can read may still check what is there
    try:
        yield
    finally:
        lock.release()


def _checked(x: Tensor) -> Tensor:
    if not torch.isfinite(x).all():
        raise SnceError("the text encoder returned NaN or infinity; check its weights and dtype (float16 may overflow)")
    return x


def _bar(progress: bool) -> Progress:
    from rich.progress import Progress

    return Progress(transient=True, disable=not progress)
