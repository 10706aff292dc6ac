"""Checksums of result files, kept in their metadata: a flipped bit in a column would be another figure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from snce.errors import SnceError
from snce.storage import CHECKSUM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow

_ROWS = "rows_sha256"


def with_checksums(metadata: Mapping[str, str], table: pyarrow.Table) -> dict[str, str]:
    """The metadata with a checksum of the rows, and one of itself, which can be looked at without the rows."""
    told = {**metadata, _ROWS: _of_rows(table)}
    return {**told, CHECKSUM: _of_metadata(told)}


def without_checksums(path: Path, metadata: Mapping[str, str], table: pyarrow.Table | None = None) -> dict[str, str]:
    """The metadata of a file, and its rows if they are given, after a check; a file of an earlier version has no
    checksums, and is taken as it is.

    Raises:
        SnceError: they are not what was written.
    """
    told = dict(metadata)
    said = told.pop(CHECKSUM, None)
    intact = said is None or said == _of_metadata(told)
    rows = told.pop(_ROWS, None)
    if not intact or (table is not None and rows is not None and rows != _of_rows(table)):
        raise SnceError(
            f"{path} is damaged: its contents are not those that were written (checksum); delete it, and the same "
            "command makes it anew"
        )
    return told


def _of_metadata(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _of_rows(table: pyarrow.Table) -> str:
    """Of the values: the same however the table is cut into chunks. Names and types are those of the version."""
    from pyarrow import types

    digest = hashlib.sha256()
    for column in table.columns:
        if types.is_list(column.type):
            lists = column.combine_chunks()
            digest.update(lists.value_lengths().to_numpy(zero_copy_only=False).tobytes())
            digest.update(lists.flatten().to_numpy(zero_copy_only=False).tobytes())
        elif types.is_string(column.type):
            digest.update(json.dumps(column.to_pylist()).encode())
        else:
            digest.update(column.to_numpy().tobytes())
    return digest.hexdigest()
