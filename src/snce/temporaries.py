"""Temporary files beside those that they are to become. One that a killed process left goes at the next write there."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows renames no file that is open: no locks there, and nothing is swept
    fcntl = None

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = ".snce-"
_swept: set[Path] = set()


@contextmanager
def temporary_file(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Yield the path of a new, empty file in `folder`; whatever is left of it at the end is removed.

    A lock on it says that its process lives. Files without one are removed before, once in each process and folder.

    Raises:
        OSError: the folder cannot be written.
    """
    _sweep(folder)
    handle, path = _locked_file(folder, suffix)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _locked_file(folder: Path, suffix: str) -> tuple[int | None, Path]:
    while True:
        handle, name = tempfile.mkstemp(dir=folder, prefix=PREFIX, suffix=suffix)
        path = Path(name)
        if fcntl is None:
            os.close(handle)
            return None, path
        # another process may sweep it before the lock is on it
        if _lock(handle) is not False and path.exists():
            return handle, path
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove the temporary files of processes that are gone."""
    folder = folder.resolve()
    if fcntl is None or folder in _swept:
        return
    for path in folder.glob(f"{PREFIX}*"):
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # of another user, gone, or no file
            continue
        try:
            if _lock(handle):
                path.unlink(missing_ok=True)
        finally:
            os.close(handle)
    _swept.add(folder)


def _lock(handle: int) -> bool | None:
    """Whether the lock is ours now; None where the file system has no locks, so that nobody can tell."""
    assert fcntl is not None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
