"""Files that are either whole or absent: written under a temporary name in the same folder, then renamed.

Safetensors files carry a checksum of what is in them: a flipped bit in a decoder row would be another edit, and nobody
would see it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from snce.errors import SnceError
from snce.temporaries import temporary_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

CHECKSUM = "snce_sha256"
"""Its name in the metadata of a safetensors file."""
MOST_TEXT = 16_000_000
"""Bytes of JSON that are read at most: it takes up to fifty-five times as much memory."""
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]|(?P<half>u[dD][89a-fA-F])|.)")
"""In JSON: a surrogate pair, half of one, or any other."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it if not.

    Raises:
        SnceError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path.parent, path.suffix) as temporary:
            yield temporary
            with temporary.open("rb+") as file:  # Windows flushes only what may be written
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
    except OSError as error:
        raise SnceError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error


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


def slug(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", name)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8. What no UTF-8 can hold, a lone half of a surrogate pair, becomes a question mark.

    Raises:
        SnceError: as `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="replace"))


def read_json(path: Path, what: str) -> Any:
    """What is in a JSON file: dicts, lists, texts, numbers.

    Args:
        what: the file should be, for the complaint that it is none.

    Raises:
        SnceError: it cannot be read, is larger than 16 MB, or holds no JSON, or text that is not Unicode.
    """
    try:
        return parse_json(read_text(path))
    except OSError as error:
        raise SnceError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SnceError(f"{path} is no {what}: {' '.join(str(error).split())[:200]}") from error


def read_text(path: Path) -> str:
    """A UTF-8 file of 16 MB at most.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or not UTF-8.
    """
    parts, size = [], 0
    with path.open("rb") as file:
        while part := file.read(1 << 16):
            parts.append(part)
            size += len(part)
            if size > MOST_TEXT:
                raise ValueError(f"it is larger than {MOST_TEXT // 10**6} MB")
    return b"".join(parts).decode("utf-8")


def parse_json(text: str) -> Any:
    """`json.loads`, with ValueError for all that is wrong.

    Raises:
        ValueError: no JSON, too deep, or with escapes that are not Unicode.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    # "\\ud800" is JSON, and no text: it could be neither printed nor written
    if any(escape["half"] for escape in _ESCAPE.finditer(text)):
        raise ValueError("it holds half of a surrogate pair, which is no Unicode text")
    return value


def strict_json(value: Any) -> str:
    """JSON of dicts, lists, texts and numbers, on several lines; null for NaN and infinity, which JSON does not know
    (Python writes them all the same, and other readers refuse the file)."""
    return json.dumps(_finite(value), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. `metadata` holds strings only, as the format asks.

    The same tensors and metadata give the same bytes. A checksum of them goes into the metadata, as `snce_sha256`.
    """
    # safetensors refuses tensors that share memory, as tied weights do
    copies = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    parts = _with_sorted_metadata(save(copies, {**metadata, CHECKSUM: checksum(copies, metadata)}))
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Of names, dtypes, shapes and numbers, and of the metadata: the same however a file arranges them."""
    digest = hashlib.sha256(json.dumps({k: v for k, v in sorted(metadata.items()) if k != CHECKSUM}).encode())
    for name, t in sorted(tensors.items()):
        digest.update(f"{json.dumps(name)} {t.dtype} {list(t.shape)}\n".encode())
        digest.update(t.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _with_sorted_metadata(data: bytes) -> tuple[bytes, bytes, memoryview]:
    """The parts of a safetensors file: size of the header, header, tensors. The library shuffles the metadata."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    return len(text).to_bytes(8, "little"), text, memoryview(data)[8 + size :]


def read_tensors(path: Path, kind: str | None, summed: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file written by `write_tensors` with metadata `format` = `kind`; of any
    safetensors file with `kind` None.

    Args:
        summed: refuse a file without a checksum. Else those of earlier versions and other libraries are taken as they
            are.

    Raises:
        SnceError: the file is missing, truncated, no safetensors file, of another kind, or not what its checksum says.
    """
    with _opened(path) as file:
        metadata = dict(file.metadata() or {})
        if kind is not None and metadata.get("format") != kind:
            found = metadata.get("format", "no format")
            raise SnceError(f"{path} is not a file of kind {kind!r}: its metadata says {found!r}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        said = metadata.pop(CHECKSUM, None)
        if said is None and summed:
            raise SnceError(f"{path} has no checksum: an earlier version wrote it")
        if said is not None and said != checksum(tensors, metadata):
            raise SnceError(f"{path} is damaged: its contents are not those that were written (checksum); copy it anew")
        return tensors, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata alone, of a safetensors file of any kind; empty if it has none. No checksum is looked at.

    Raises:
        SnceError: the file is missing, truncated, or no safetensors file.
    """
    with _opened(path) as file:
        return {name: text for name, text in (file.metadata() or {}).items() if name != CHECKSUM}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        if path.is_dir():
            raise SnceError(f"{path} is a folder; give the path of a file")
        if not path.is_file():
            raise SnceError(f"no such file: {path}")
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        # a header takes many times its size in memory; longer than the file is for safetensors to say
        if MOST_TEXT < size <= path.stat().st_size:
            raise SnceError(f"{path} has a header of {size / 1e6:.0f} MB: it is no file of ours")
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise SnceError(f"{path} is truncated or not a safetensors file: {error}") from error
    except OSError as error:
        raise SnceError(f"cannot read {path}: {error.strerror or error}") from error


def is_finite(tensor: Tensor) -> bool:
    """Whether it holds neither NaN nor infinity, as float32. A piece at a time: the check itself would take more memory
    than the tensor."""
    return all(bool(torch.isfinite(part.float()).all()) for part in tensor.reshape(-1).split(1 << 18))


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
