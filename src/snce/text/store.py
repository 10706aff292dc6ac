"""Embeddings in a folder on disk, a block of prompts at a time, each block with a checksum.

One file for all blocks, so that it can be mapped into memory as one tensor. Blocks come in any order. Whatever becomes
of the files, a block whose checksum is missing or wrong counts as not there.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import mmap
import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch

from snce.errors import SnceError
from snce.storage import parse_json, read_text, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any, Self

    from torch import Tensor

_FORMAT = "snce-embeddings-2"
_DIGEST = 16
"""Bytes of a checksum."""
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0


class EmbeddingStore:
    """float16 [prompts, positions, d] in a folder: `embeddings.npy`, `checksums.bin` (the first 16 bytes of every
    block's SHA-256) and `progress.json` (prompts per block; size and time of the finished file).

    Use it as a context manager to write: `with store: store.put(0, x)`.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], block: int) -> None:
        """
        Args:
            block: prompts per block. A folder that has been written to keeps its own.
        """
        self.folder, self.shape = folder, shape
        self._data, self._sums = folder / "embeddings.npy", folder / "checksums.bin"
        self._record = folder / "progress.json"
        self._files: tuple[int, ...] = ()
        header = io.BytesIO()
        fields = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, fields)
        self._header = header.getvalue()
        self._row = 2 * math.prod(shape[1:])
        self.block, self._finished = block, None
        record = self._read_record()
        self._known = record is not None
        if record is not None:
            self.block, self._finished = record["block"], record["finished"]

    @property
    def blocks(self) -> int:
        """How many there are."""
        return -(-self.shape[0] // self.block)

    def rows(self, block: int) -> slice:
        """The prompts of a block."""
        return slice(block * self.block, min((block + 1) * self.block, self.shape[0]))

    def is_finished(self) -> bool:
        """Whether every block was written and nobody has written to the file since. Reads no embeddings."""
        return self._finished is not None and self._finished == self._stamp()

    def is_foreign(self) -> bool:
        """Whether there are embeddings in the folder of which nothing is known: another version left them."""
        return not self._known and self._data.exists() and not self._sums.exists()

    def has_header(self) -> bool:
        """Whether `embeddings.npy` begins as it must for numpy to read it."""
        with self._data.open("rb") as file:
            return file.read(len(self._header)) == self._header

    def sound(self) -> Iterator[tuple[int, bool]]:
        """(block, whether its numbers are those that were written), for all blocks that were; reads all of them."""
        try:
            sums = self._sums.read_bytes()
            file = self._data.open("rb")
        except FileNotFoundError:
            return
        with file:
            for i in range(self.blocks):
                kept = sums[i * _DIGEST : (i + 1) * _DIGEST]
                if kept.strip(b"\0"):
                    file.seek(self._offset(i))
                    yield i, _checksum(file.read(self._size(i))) == kept

    def __enter__(self) -> Self:
        """
        Raises:
            SnceError: the disk has no room for the embeddings.
            OSError: the files cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._finished = None
        self._write_record()
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)  # Windows writes line ends of its own without it
        self._files = tuple(os.open(path, flags, 0o644) for path in (self._data, self._sums))
        data, sums = self._files
        size = len(self._header) + self.shape[0] * self._row
        os.ftruncate(data, size)  # sparse: blocks take room when they are written
        os.ftruncate(sums, self.blocks * _DIGEST)
        needed = size - 512 * os.fstat(data).st_blocks if hasattr(os.stat_result, "st_blocks") else size
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            self.__exit__()
            raise SnceError(
                f"the embeddings of {self.shape[0]} prompts need {needed / 1e9:.2f} GB more, {self.folder} has "
                f"{free / 1e9:.2f} GB free; give fewer prompts or another folder"
            )
        _write(data, self._header, 0)
        return self

    def __exit__(self, *_error: object) -> None:
        for file in self._files:
            os.close(file)
        self._files = ()

    def forget(self, blocks: Iterable[int]) -> None:
        """These blocks are to be written again."""
        for i in blocks:
            _write(self._files[1], bytes(_DIGEST), i * _DIGEST)

    def put(self, block: int, x: np.ndarray) -> None:
        """Write a block, float16 [prompts of the block, positions, d].

        Not through a memory map: on a full disk that would kill the process.
        """
        rows = self.rows(block)
        if x.dtype != np.float16 or x.shape != (rows.stop - rows.start, *self.shape[1:]):
            raise SnceError(f"block {block} is {x.dtype} {x.shape}, and does not fit float16 {self.shape}")
        data = x.astype("<f2", order="C", copy=False).tobytes()
        _write(self._files[0], data, self._offset(block))
        _write(self._files[1], _checksum(data), block * _DIGEST)

    def finish(self) -> None:
        """All blocks are there: note the state of the file, after it has reached the disk."""
        for file in self._files:
            os.fsync(file)
        self._finished = self._stamp()
        self._write_record()

    def read(self) -> Tensor:
        """All embeddings, mapped into memory copy on write: who changes them in memory leaves the file as it is."""
        with self._data.open("rb") as file:
            # the system would refuse a map that it may have to copy and that is larger than memory; this one is read
            flags = {"flags": mmap.MAP_PRIVATE | _NO_RESERVE, "prot": mmap.PROT_READ | mmap.PROT_WRITE}
            mapped = mmap.mmap(file.fileno(), 0, **(flags if os.name == "posix" else {"access": mmap.ACCESS_COPY}))
        array = np.frombuffer(mapped, "<f2", math.prod(self.shape), len(self._header)).reshape(self.shape)
        return torch.from_numpy(array)

    def _write_record(self) -> None:
        record = {"format": _FORMAT, "block": self.block, "finished": self._finished}
        write_text(self._record, json.dumps(record | {"checksum": _checksum(repr(record).encode()).hex()}) + "\n")

    def _read_record(self) -> dict[str, Any] | None:
        """None if it is not there, damaged, or of a version without checksums: nothing is known."""
        with suppress(FileNotFoundError, ValueError):
            record = parse_json(read_text(self._record))
            if isinstance(record, dict):
                checksum = record.pop("checksum", None)
                if record.get("format") == _FORMAT and checksum == _checksum(repr(record).encode()).hex():
                    return record
        return None

    def _stamp(self) -> list[int] | None:
        with suppress(FileNotFoundError):
            stat = self._data.stat()
            return [stat.st_size, stat.st_mtime_ns]
        return None

    def _offset(self, block: int) -> int:
        return len(self._header) + block * self.block * self._row

    def _size(self, block: int) -> int:
        rows = self.rows(block)
        return (rows.stop - rows.start) * self._row


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_DIGEST]


def _write(file: int, data: bytes, offset: int) -> None:
    os.lseek(file, offset, os.SEEK_SET)  # not pwrite, which Windows lacks: a store is written by one thread
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
