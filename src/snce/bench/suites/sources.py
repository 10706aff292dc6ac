"""Rows of a CSV file, of a data set in a folder, or of one on the hub."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snce.errors import SnceError
from snce.text.prompts import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def read_rows(source: str, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of FILE.csv, FOLDER, or a hub data set "owner/name" or "owner/name:split" (train by default).

    Args:
        wanted: columns that may be read; where the source allows, no others are fetched.

    Raises:
        SnceError: no such file or data set, a damaged one, or the library for data sets is not installed.
    """
    if source.lower().endswith(".csv"):
        return _csv(Path(source))
    return _data_set(source, wanted)


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    try:
        # spreadsheets put a byte order mark before the text; strict: an open quote must not swallow the rest
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(lines_of(file, path), strict=True)
            for row in rows:
                if None in row or None in row.values():
                    raise SnceError(f"{path}, line {rows.line_num}: not as many fields as the first line has columns")
                yield row
    except OSError as error:
        raise SnceError(f"cannot read prompt file {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SnceError(f"{path} is not a UTF-8 CSV file, or damaged: {error}") from error


def _data_set(source: str, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]  # of the extra suites
    except ImportError as error:
        raise SnceError(
            f"prompts from the data set {source!r} need the library datasets: pip install 'snce[suites]'; or give "
            "--prompts FILE.csv"
        ) from error
    name, _, split = (source, "", "") if Path(source).is_dir() else source.partition(":")
    try:
        # streaming: nothing is fetched but what is read
        data = load_dataset(name, split=split or "train", streaming=True)
        columns = data.column_names
        if columns:
            data = data.select_columns([c for c in columns if c in wanted] or columns)
        yield from data
    # a wrong name, no network, a damaged file surface as nearly any exception of datasets, the hub or pyarrow
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = lines[0][:200] if lines else type(error).__name__
        raise SnceError(f"cannot read the data set {source!r} (mistyped, or offline?): {told}") from error
