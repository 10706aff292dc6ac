"""Run prompts through a tower and keep their token embeddings, in memory or in an on-disk cache that resumes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from snce.errors import SnceError
from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.text.tokens import Tokens
    from snce.text.towers import TextTower

_STORE, _PROGRESS = "embeddings.npy", "progress.json"


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
) -> Embeddings:
    """Embeddings of `prompts`, in their order.

    Args:
        cache: folder for the embeddings as float16. They are written batch by batch; a run that was killed goes on
            where it stopped, a complete one is not computed again. Another encoder or other prompts get another file.

    Raises:
        SnceError: no prompts; NaN or infinity among the embeddings; a cache that cannot be written.
    """
    if len(prompts) == 0:
        raise SnceError("no prompts to harvest")
    tokens = tower.tokenize(prompts)
    kinds = tower.kinds(tokens)
    if cache is None:
        batches = list(tokens.batches(batch_size))
        parts = [_checked(tower.encode_tokens(part)).float().cpu() for part in _track(batches, progress)]
        return Embeddings(torch.cat(parts), kinds)

    folder = Path(cache) / _key(tower, tokens)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store, done = _open(folder, (len(kinds), kinds.shape[1], tower.width))
        for part in _track(list(tokens.batches(batch_size, start=done)), progress):
            x = _checked(tower.encode_tokens(part).half())
            store[done : done + len(x)] = x.cpu().numpy()
            store.flush()
            done += len(x)
            write_text(folder / _PROGRESS, json.dumps({"done": done}))
        # copy on write: whoever changes the embeddings in memory leaves the cache as it is
        return Embeddings(torch.from_numpy(np.load(folder / _STORE, mmap_mode="c")), kinds)
    except OSError as error:
        raise SnceError(f"cannot use the cache {cache}: {error.strerror or error}") from error


def _open(folder: Path, shape: tuple[int, int, int]) -> tuple[np.memmap, int]:
    """The memory-mapped embeddings of a cache folder, and how many prompts are in it already."""
    path, progress = folder / _STORE, folder / _PROGRESS
    try:
        done = json.loads(progress.read_text())["done"] if progress.exists() and path.exists() else 0
        if not 0 <= done <= shape[0]:
            raise ValueError(f"{done} of {shape[0]} prompts done")
        if done == 0:
            return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape), 0
        np.lib.format.open_memmap(path, mode="r")  # raises for a truncated file, which "r+" would fill up with zeros
        store = np.lib.format.open_memmap(path, mode="r+")
        if store.shape != shape or store.dtype != np.float16:
            raise ValueError(f"{store.dtype} {store.shape} where float16 {shape} was expected")
        return store, done
    except (ValueError, KeyError, TypeError) as error:
        raise SnceError(f"the cache {folder} is damaged ({error}); delete it and run again") from error


def _key(tower: TextTower, tokens: Tokens) -> str:
    digest = hashlib.sha256(tower.fingerprint.encode() + tower.path.encode())
    for part in tokens:
        digest.update(b"" if part is None else part.numpy().tobytes())
    return digest.hexdigest()[:16]


def _checked(x: Tensor) -> Tensor:
    if not torch.isfinite(x).all():
        raise SnceError("the text encoder returned NaN or infinity; check its weights and dtype (float16 may overflow)")
    return x


def _track(parts, progress: bool):
    if not progress:
        yield from parts
        return
    with Progress(transient=True) as bar:
        yield from bar.track(parts, description="text embeddings")
