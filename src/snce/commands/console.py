"""What the commands share: the terminal, a quietly loaded model, and output paths checked before hours of work."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from snce.errors import SnceError
from snce.temporaries import temporary_file
from snce.text.unicode import check_unicode

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from rich.status import Status


def stdout() -> Console:
    """For results. Made anew each time: it must write to the `sys.stdout` of now."""
    _escape(sys.stdout)
    return Console(highlight=False, emoji=False)  # a name may have a word between colons


def stderr() -> Console:
    """For errors, warnings and notes."""
    _escape(sys.stderr)
    return Console(stderr=True, highlight=False, emoji=False)


def status(text: str) -> Status:
    """A spinner beside `text`, while someone watches and work is done. Shown as it is: names in it are no markup."""
    return stderr().status(Text(text))


def _escape(stream: Any) -> None:
    """What a terminal cannot show, such as a file name that is no Unicode, is escaped: it must not end the command."""
    if isinstance(stream, TextIOWrapper) and stream.errors != "backslashreplace":
        stream.reconfigure(errors="backslashreplace")


def on_terminal() -> bool:
    """Whether someone is watching: progress bars are for them, not for logs."""
    return stdout().is_terminal


def open_pipeline(model: str, device: str = "cpu") -> Any:
    """`load_pipeline`, without the chatter of the libraries below it, on a device.

    Args:
        device: as `torch.device` takes it; "auto" for a CUDA device if there is one, else the CPU.

    Raises:
        SnceError: the model cannot be loaded, or there is no such device.
    """
    with status(f"loading {model}"):
        quiet_libraries()
        from snce.pipelines import load_pipeline

        place = _device(device)  # before the work of loading
        return load_pipeline(model).to(place)


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SnceError(f"--device {name!r} is none that can be used here; try cpu, cuda, cuda:1 or mps") from error
    return device


def quiet_libraries() -> None:
    """No chatter and no progress bars of diffusers and transformers."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def check_output(path: Path, *suffixes: str) -> None:
    """Make sure that the file `path` can be written, before the work for it begins.

    Args:
        suffixes: endings that its name may have; none for any.

    Raises:
        SnceError: it cannot, it is a folder, or its name has another ending.
    """
    if path.is_dir():
        raise SnceError(f"cannot write {path}: it is a folder; give the path of a file")
    check_unicode([path.name])  # safetensors could not read it
    if suffixes and path.suffix.lower() not in suffixes:
        raise SnceError(f"--out {path} must end in {' or '.join(suffixes)}")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Make `folder` if need be, and make sure that files can be written to it.

    Raises:
        SnceError: they cannot.
    """
    check_unicode([str(folder)])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_file(folder):
            pass
    except OSError as error:
        raise SnceError(f"cannot write to {folder}: {error.strerror or error}") from error
