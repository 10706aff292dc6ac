"""The results of the benchmark: a parquet file with one row per picture."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from snce.errors import SnceError
from snce.storage import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pyarrow

SEPARATOR = " + "
"""Between the names of concepts that are erased together."""
VERSION = "snce-bench-1"


@dataclass(frozen=True)
class Row:
    """A picture drawn with a method, beside the picture of the same prompt and seed without it."""

    method: str
    setting: float
    """Of the method's knob; NaN where it has none."""
    erased: str
    """The erased concepts, joined by " + "."""
    kind: str
    """See `BenchPrompt.kind`."""
    concept: str
    prompt: str
    seed: int
    style_named: bool
    """Whether the prompt names a style."""
    target_before: bool
    target_after: bool
    """The erased concept is found."""
    kept_before: bool
    kept_after: bool
    """All else that the prompt asks for is found."""
    style_before: bool
    style_after: bool
    """The style is the one that the prompt names; where it names none, the one that the picture had before."""
    identical: bool
    """Not one byte differs."""
    psnr: float
    """In dB against the picture before; infinite where identical."""
    features_before: np.ndarray
    features_after: np.ndarray
    """The judge's, float16 [width]."""


@dataclass(frozen=True)
class Cost:
    """What a method takes for one set of erased concepts."""

    prepare_seconds: float
    bytes: int
    """Of what must be shipped."""
    seconds_per_picture: float
    base_seconds_per_picture: float


def write_rows(path: Path, rows: Sequence[Row], metadata: dict[str, str]) -> None:
    """Write the rows, whole or not at all."""
    pa, parquet = _pyarrow()
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(Row)}
    table = pa.table(columns, schema=_schema(pa)).replace_schema_metadata({"format": VERSION, **metadata})
    with replacing(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")


def read_rows(paths: Iterable[Path]) -> tuple[dict[str, np.ndarray], list[dict[str, str]]]:
    """Columns of all files, one after the other, and the metadata of each.

    Raises:
        SnceError: no files, or one that is damaged or of another kind.
    """
    table, metadata = _read(paths)
    columns = {name: table[name].to_numpy() for name in table.column_names if not name.startswith("features")}
    for name in ("features_before", "features_after"):
        columns[name] = np.stack(table[name].to_pylist()).astype(np.float32)
    return columns, metadata


def join_rows(paths: Iterable[Path], path: Path) -> None:
    """Write the rows of all files into one."""
    _, parquet = _pyarrow()
    table, _ = _read(paths)
    with replacing(path) as temporary:
        parquet.write_table(table.replace_schema_metadata({"format": VERSION}), temporary, compression="zstd")


def _read(paths: Iterable[Path]) -> tuple[pyarrow.Table, list[dict[str, str]]]:
    pa, parquet = _pyarrow()
    tables, metadata = [], []
    for path in paths:
        try:
            table = parquet.read_table(path)
            found = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
            raise SnceError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from error
        if found.get("format") != VERSION or table.schema.remove_metadata() != _schema(pa):
            raise SnceError(f"{path} holds no results of this benchmark: its format is {found.get('format')!r}")
        tables.append(table.replace_schema_metadata(None))
        metadata.append(found)
    if not tables:
        raise SnceError("no results to read")
    return pa.concat_tables(tables), metadata


def _schema(pa) -> pyarrow.Schema:
    kinds = {"str": pa.string(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    return pa.schema([(f.name, kinds.get(str(f.type), pa.list_(pa.float16()))) for f in fields(Row)])


def _pyarrow():
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise SnceError("the benchmark keeps its results in parquet: pip install 'snce[bench]'") from error
    return pyarrow, parquet
