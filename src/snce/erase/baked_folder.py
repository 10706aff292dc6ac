"""The folder of a baked pipeline: built beside its place and moved there whole; the code and files that it holds."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from snce.errors import SnceError
from snce.storage import read_json, write_text
from snce.temporaries import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from transformers import PreTrainedModel

NOT_COPIED = {".bin", ".ckpt", ".pt", ".pth", ".pkl", ".h5", ".msgpack", ".onnx", ".onnx_data", ".pb"}
"""Pickles, and weights for other runtimes: safetensors only."""
LICENCES = ("LICEN[CS]E*", "NOTICE*")


@contextmanager
def built(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`; rename it to `out` if the block succeeds, remove it if not.

    Raises:
        SnceError: `out` exists and is not an empty folder, or cannot be written.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise SnceError(f"{out} exists and is not an empty folder; give another --out, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(out.parent) as temporary:
            yield temporary
            temporary.chmod(0o755)
            temporary.replace(out)  # an empty folder there gives way
    except OSError as error:
        raise SnceError(f"cannot write {out}: {_reason(error)}") from error


def save_encoder(encoder: PreTrainedModel, folder: Path) -> None:
    """Its config, weights and code.

    Raises:
        OSError: they cannot be written. safetensors has an error of its own for that, which is none.
    """
    try:
        encoder.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error).rpartition("I/O error: ")[2]) from error


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):  # of a whole folder: (from, to, why) of each file
        return str(error.args[0][0][-1])
    return str(error.strerror or error)


def read_index(folder: Path) -> dict[str, Any]:
    """model_index.json of a pipeline.

    Raises:
        SnceError: it is damaged, or names a pipeline class of its own code.
    """
    index = read_json(folder / "model_index.json", "model_index.json of a pipeline")
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise SnceError(f"{folder} holds a pipeline class of its own, which cannot be baked")
    return index


def write_index(folder: Path, index: dict[str, Any]) -> None:
    write_text(folder / "model_index.json", json.dumps(index, indent=2, sort_keys=True) + "\n")


def code_file() -> tuple[str, bytes]:
    """(module name, contents) of the code that goes into a folder. The name holds a hash of the contents: diffusers
    keeps one copy per name, for all folders."""
    code = files("snce.erase").joinpath("baked.py").read_bytes()
    return f"snce_erased_{hashlib.sha256(code).hexdigest()[:8]}", code


def has_our_code(folder: Path) -> bool:
    """Whether `folder` is a baked pipeline, and all code that diffusers would load for it is that of this version of
    snce, byte for byte.

    diffusers loads FOLDER/COMPONENT/LIBRARY.py where there is such a file, with both names from the index: they must be
    names, no paths that lead out of the folder.
    """
    name, code = code_file()
    try:
        index = read_json(folder / "model_index.json", "model_index.json of a pipeline")
    except SnceError:
        return False
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        return False
    named = [(part, value[0]) for part, value in index.items() if isinstance(value, list) and value[:1] != [None]]
    if not all(_is_name(part) and _is_name(library) for part, library in named):
        return False
    loaded = {folder / part / f"{library}.py" for part, library in named}
    towers = [part for part, value in index.items() if isinstance(value, list) and value[:1] == [name]]
    ours = {folder / tower / f"{name}.py" for tower in towers}
    found = {*folder.rglob("*.py"), *(file for file in loaded if file.exists())}  # also behind a linked folder
    return bool(towers) and found == ours and all(file.read_bytes() == code for file in ours)


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and all(part.isidentifier() for part in text.split("."))


def copy_pipeline(source: Path, out: Path, index: dict[str, Any], without: Collection[str], card: Path) -> None:
    """Copy the folders of a pipeline's components but `without`, and its licences; its `card` becomes README.base.md.

    Nothing else at the top of the folder comes along: single-file checkpoints there hold the plain text encoder.
    """
    for name, value in index.items():
        if isinstance(value, list) and value[0] is not None and name not in without and (source / name).is_dir():
            shutil.copytree(source / name, out / name, ignore=_ignored, copy_function=shutil.copyfile)
    for pattern in LICENCES:
        for file in source.glob(pattern):
            shutil.copyfile(file, out / file.name)
    if card.is_file():
        shutil.copyfile(card, out / "README.base.md")


def _ignored(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if Path(name).suffix in NOT_COPIED or name.startswith(".")}
