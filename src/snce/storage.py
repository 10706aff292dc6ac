"""Files that are either whole or absent: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it if not.

    Raises:
        SnceError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise SnceError(f"cannot write {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise SnceError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time is in here for this path: the others wait. The lock is a hidden file beside it, and goes
    with the process that holds it, however that ends.

    Raises:
        SnceError: the folder cannot be written.
    """
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise SnceError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. `metadata` holds strings only, as the format asks.

    The same tensors and metadata give the same bytes.
    """
    # safetensors refuses tensors that share memory, as tied weights do
    copies = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    parts = _with_sorted_metadata(save(copies, dict(metadata)))
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)


def _with_sorted_metadata(data: bytes) -> tuple[bytes, bytes, memoryview]:
    """The parts of a safetensors file: size of the header, header, tensors. The library shuffles the metadata."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    return len(text).to_bytes(8, "little"), text, memoryview(data)[8 + size :]


def read_tensors(path: Path, kind: str | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file written by `write_tensors` with metadata `format` = `kind`; of any
    safetensors file with `kind` None.

    Raises:
        SnceError: the file is missing, truncated, no safetensors file, or of another kind.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        if kind is not None and metadata.get("format") != kind:
            found = metadata.get("format", "no format")
            raise SnceError(f"{path} is not a file of kind {kind!r}: its metadata says {found!r}")
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - not a mapping


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata alone, of a safetensors file of any kind; empty if it has none.

    Raises:
        SnceError: the file is missing, truncated, or no safetensors file.
    """
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise SnceError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise SnceError(f"{path} is truncated or not a safetensors file: {error}") from error
    except OSError as error:
        raise SnceError(f"cannot read {path}: {error.strerror or error}") from error


def kept_tensors(path: Path, kind: str, stamp: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """The tensors that an earlier call left at `path` with the same stamp; else those that `make` gives, left there.

    Raises:
        SnceError: the file is damaged, or of another kind.
    """
    if path.exists():
        tensors, metadata = read_tensors(path, kind)
        if metadata.get("stamp") == stamp:
            return tensors
    made = make()
    write_tensors(path, made, {"format": kind, "stamp": stamp})
    return made
