"""The results of the benchmark: parquet files with one row per picture, in one schema for all suites."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from snce.bench.checksum import with_checksums, without_checksums
from snce.errors import SnceError
from snce.storage import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow
    from pyarrow.parquet import ParquetFile

SEPARATOR = " + "
"""Between the names of concepts that are erased together."""
VERSION = "snce-bench-2"
MOST_PER_BYTE = 1000
"""Bytes of rows for each byte of their file. Rows of real pictures take a few, the same row many times some hundreds; a
forged file asks for more than any memory holds."""
ALLOWED = 64_000_000
"""Bytes of rows beside that, for the smallest of files."""


@dataclass(frozen=True)
class Row:
    """A picture drawn with a method, beside the picture of the same prompt and seed without it."""

    method: str
    setting: float
    """Of the method's knob; NaN where it has none."""
    erased: str
    """The erased concepts, joined by " + "."""
    kind: str
    """See `BenchPrompt.kind`; "i2p" for the prompts of I2P, which may show the concept and do not name it."""
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
    """Of the judge, or of Inception where FID is measured; float16 [width], empty where there are none."""
    suite: str = "emblem"
    model: str = "emblem"
    text_score_before: float = math.nan
    text_score_after: float = math.nan
    """CLIP score, 0 to 100; NaN where it is not measured."""
    detail: str = ""
    """JSON of what the judges of a suite saw, before and after; "" where there is no more than the columns."""


@dataclass(frozen=True)
class Cost:
    """What a method takes for one set of erased concepts."""

    prepare_seconds: float
    """Of the processor (suite emblem), or by the clock (real models, which may be on a GPU)."""
    bytes: int
    """Of what must be shipped."""
    seconds_per_picture: float


def write_rows(path: Path, rows: Sequence[Row], metadata: dict[str, str]) -> None:
    """Write the rows, whole or not at all. Checksums go into the metadata."""
    pa, parquet = _pyarrow()
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(Row)}
    table = pa.table(columns, schema=_schema(pa))
    told = with_checksums({"format": VERSION, **metadata}, table)
    with replacing(path) as temporary:
        parquet.write_table(table.replace_schema_metadata(told), temporary, compression="zstd")


def read_rows(paths: Iterable[Path]) -> tuple[dict[str, np.ndarray], list[dict[str, str]]]:
    """Columns of all files, one after the other, and the metadata of each. Features are float32 [rows, width].

    Raises:
        SnceError: no files, one that is damaged or of another kind, or features of different widths.
    """
    pa, _ = _pyarrow()
    tables, metadata = zip(*_tables(paths), strict=True)
    table = pa.concat_tables(tables)
    columns = {name: table[name].to_numpy() for name in table.column_names if not name.startswith("features")}
    for name in ("features_before", "features_after"):
        columns[name] = _matrix(name, table[name])
    return columns, list(metadata)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, without its rows.

    Raises:
        SnceError: the file is damaged or of another kind.
    """
    _, parquet = _pyarrow()
    with _damage_is_named(path):
        schema = parquet.read_schema(path)
        return without_checksums(path, _checked(path, schema))


def join_rows(paths: Iterable[Path], path: Path) -> None:
    """Write the rows of all files into one, file by file: they need not fit into memory together.

    Raises:
        SnceError: as `read_rows`.
    """
    pa, parquet = _pyarrow()
    schema = _schema(pa).with_metadata({"format": VERSION})
    with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for table, _ in _tables(paths):
            writer.write_table(table.replace_schema_metadata({"format": VERSION}))


def _tables(paths: Iterable[Path]) -> Iterator[tuple[pyarrow.Table, dict[str, str]]]:
    _, parquet = _pyarrow()
    none = True
    for path in paths:
        none = False
        with _damage_is_named(path):
            with parquet.ParquetFile(path) as file:
                metadata = _checked(path, file.schema_arrow)
                table = _rows_of(path, file)
            metadata = without_checksums(path, metadata, table)
        yield table.replace_schema_metadata(None), metadata
    if none:
        raise SnceError("no results to read")


def _rows_of(path: Path, file: ParquetFile) -> pyarrow.Table:
    """All rows, a few at a time.

    Raises:
        SnceError: they are more than its size allows.
    """
    pa, _ = _pyarrow()
    most = MOST_PER_BYTE * path.stat().st_size + ALLOWED
    told = file.metadata
    # not `group.column(i)`, which would tell more: on damaged metadata it ends the process
    groups = [told.row_group(i) for i in range(told.num_row_groups)]
    rows, sizes = [told.num_rows, *(g.num_rows for g in groups)], [g.total_byte_size for g in groups]
    if min([*rows, *sizes]) < 0 or max(8 * sum(rows), sum(sizes)) > most:
        raise _too_much(path)
    # a text that is kept once may stand in every row: no size says what the rows take
    at_once = max(1, min(1 << 16, most // (8 * max([1, *sizes]))))
    batches, size = [], 0
    for batch in file.iter_batches(batch_size=at_once):
        size += batch.nbytes
        if size > most:
            raise _too_much(path)
        batches.append(batch)
    return pa.Table.from_batches(batches, file.schema_arrow)


def _too_much(path: Path) -> SnceError:
    return SnceError(
        f"{path} is damaged or forged: its rows would take more than {MOST_PER_BYTE} times its size; delete it, and "
        "the same command makes it anew"
    )


@contextmanager
def _damage_is_named(path: Path) -> Iterator[None]:
    pa, _ = _pyarrow()
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SnceError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from error


def _checked(path: Path, schema: pyarrow.Schema) -> dict[str, str]:
    """The metadata of a file with this schema."""
    found = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    pa, _ = _pyarrow()
    if found.get("format") != VERSION or schema.remove_metadata() != _schema(pa):
        raise SnceError(
            f"{path} holds no results of this version of the benchmark: its format is {found.get('format')!r}, not "
            f"{VERSION!r}"
        )
    return found


def _matrix(name: str, column: pyarrow.ChunkedArray) -> np.ndarray:
    """Lists of one length as float32 [rows, width]."""
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    widths = {int(w) for chunk in chunks for w in np.unique(np.diff(chunk.offsets.to_numpy()))}
    if len(widths) > 1:
        raise SnceError(f"{name} has rows of different widths, {sorted(widths)}: they are not of one judge")
    rows, width = len(column), next(iter(widths), 0)
    flat = [chunk.flatten().to_numpy(zero_copy_only=False).astype(np.float32) for chunk in chunks]
    return np.concatenate([np.empty(0, np.float32), *flat]).reshape(rows, width)


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
