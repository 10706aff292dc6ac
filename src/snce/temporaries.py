"""Temporary files and folders beside what they are to become. What a killed process left goes at the next write."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows renames no file that is open: no locks there, and nothing is swept
    fcntl = None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = ".snce-"
FOLDER_PREFIX = f"{PREFIX}folder-"
"""Folders go with all that is in them: only those of this name, which nobody else gives."""
_swept: set[Path] = set()


@contextmanager
def temporary_file(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Yield the path of a new, empty file in `folder`; whatever is left of it at the end is removed.

    A lock on it says that its process lives. Those without one are removed before, once in each process and folder.

    Raises:
        OSError: the folder cannot be written.
    """

    def make() -> tuple[int | None, Path]:
        handle, name = tempfile.mkstemp(dir=folder, prefix=PREFIX, suffix=suffix)
        if fcntl is not None:
            return handle, Path(name)
        os.close(handle)
        return None, Path(name)

    with _locked(folder, make) as path:
        yield path


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """The same with a new, empty folder in `folder`."""

    def make() -> tuple[int | None, Path]:
        name = tempfile.mkdtemp(dir=folder, prefix=FOLDER_PREFIX)
        return None if fcntl is None else os.open(name, os.O_RDONLY), Path(name)

    with _locked(folder, make) as path:
        yield path


@contextmanager
def _locked(folder: Path, make: Callable[[], tuple[int | None, Path]]) -> Iterator[Path]:
    """Yield the path of what `make` makes in `folder`, with a lock on the handle that it gives; remove what is left."""
    _sweep(folder)
    while True:
        handle, path = make()
        # another process may sweep it before the lock is on it
        if handle is None or (_lock(handle) is not False and path.exists()):
            break
        os.close(handle)
    try:
        yield path
    finally:
        _remove(path)
        if handle is not None:
            os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove the temporary files and folders of processes that are gone."""
    folder = folder.resolve()
    if fcntl is None or folder in _swept:
        return
    for path in folder.glob(f"{PREFIX}*"):
        if (handle := _open(path)) is None:
            continue
        try:
            is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
            if (not is_folder or path.name.startswith(FOLDER_PREFIX)) and _lock(handle):
                _remove(path)
        finally:
            os.close(handle)
    _swept.add(folder)


def _open(path: Path) -> int | None:
    """A handle to lock it by; None if it is of another user, gone, or a link."""
    for access in (os.O_RDWR, os.O_RDONLY):  # network file systems lock what can be written; folders cannot
        try:
            return os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
        except IsADirectoryError:
            continue
        except OSError:
            return None
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
