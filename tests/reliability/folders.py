"""What a command leaves in its folder, compared with what it leaves when nothing disturbs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from snce.bench.costs import PREPARE, TIME
from snce.bench.rows import read_rows
from snce.storage import read_tensors
from snce.temporaries import PREFIX

if TYPE_CHECKING:
    from pathlib import Path

ALWAYS_ANOTHER = ("progress.json",)
"""Notes the time at which a file was written."""


def files_in(folder: Path) -> dict[str, bytes]:
    """All but locks, which hold nothing."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}
    return {name: b"" if path.name in ALWAYS_ANOTHER else path.read_bytes() for name, path in found.items()}


class SameBytes:
    """Finished folders hold the same files, byte for byte; of a run that was killed every file is whole."""

    def __init__(self) -> None:
        self.expected: dict[str, bytes] | None = None

    def __call__(self, folder: Path, finished: bool) -> None:
        if not finished:
            for path in folder.rglob("[!.]*.safetensors"):
                read_tensors(path, None)
            for path in folder.rglob("[!.]*.png"):
                Image.open(path).load()
            return
        assert list(folder.rglob(f"{PREFIX}*")) == []
        found = files_in(folder)
        if self.expected is None:
            self.expected = found
        assert found.keys() == self.expected.keys()
        assert [name for name in found if found[name] != self.expected[name]] == []


class SameFigures:
    """The benchmark's rows, pictures and figures are the same, but for seconds."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] | None = None
        self.summary = ""
        self.names: set[str] = set()
        self.pictures: dict[str, bytes] = {}

    def __call__(self, folder: Path, finished: bool) -> None:
        for path in folder.rglob("[!.]*.parquet"):
            read_rows([path])
        if not finished:
            return
        assert list(folder.rglob(f"{PREFIX}*")) == []
        rows, _ = read_rows([folder / "results.parquet"])
        summary = json.dumps(_untimed(json.loads((folder / "summary.json").read_text())))
        files = files_in(folder)
        pictures = {name: content for name, content in files.items() if name.startswith("pictures/")}
        if self.rows is None:
            self.rows, self.summary, self.names, self.pictures = rows, summary, set(files), pictures
        assert summary == self.summary
        assert files.keys() == self.names
        assert [name for name in pictures if pictures[name] != self.pictures[name]] == []
        for name, column in rows.items():
            assert np.array_equal(column, self.rows[name], equal_nan=column.dtype.kind == "f")


def _untimed(value: Any) -> Any:
    """A summary without what was timed."""
    if isinstance(value, dict):
        return {name: _untimed(item) for name, item in value.items() if name not in (PREPARE, TIME)}
    return value
