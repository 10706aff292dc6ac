"""What a run leaves for the next one: records in JSON, and rows in parquet. The same table as in `parsers`."""

from __future__ import annotations

import io
import json
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from snce.bench.rows import read_rows, write_rows
from snce.bench.suites.report import check_settings
from snce.demo.table import MEASURES, row_table, stored_rows, summary_table
from snce.storage import CHECKSUM
from snce.text.harvest import harvest
from tests.bench.test_rows import ROW
from tests.examples import PROMPTS, same_bits
from tests.reliability.mutations import forged_text
from tests.reliability.parsers import Parser

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from snce.text.towers import TextTower

SETTINGS = {"suite": "i2p", "prompts": {"count": 3}, "erased": ["nudity"], "chunk": 64, "judges": {"threshold": 0.6}}
STAMP = ["fingerprint", {"width": 8}, 1.25]
FOUND = {"concept": "bomb", "neuron": 7, "score": 0.5, "base_rate": 1.0, "frequency_target": 1.0}


def at(name: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Reads the file under this name."""
    return lambda path: read(path.replace(path.with_name(name)))


def settings_are_those_of_the_file(_digest: str, content: bytes) -> None:
    there = json.loads(content)["settings"]
    assert {key: there[key] for key in SETTINGS} == SETTINGS


def rows_make_a_table(rows: list[dict], _content: bytes) -> None:
    json.dumps({row["concept"]: row for row in rows}, ensure_ascii=False).encode()
    summary_table(rows)
    row_table(rows)


def rows_are_those_that_were_written(original: tuple) -> Callable[[tuple, bytes], None]:
    def check(found: tuple, content: bytes) -> None:
        from pyarrow.parquet import read_schema

        columns, metadata = found
        assert columns.keys() == original[0].keys()
        told = read_schema(io.BytesIO(content)).metadata
        if CHECKSUM.encode() in told:  # else its name was hit: a file of an earlier version
            assert metadata == original[1]
        if b"rows_sha256" in told:
            for name, column in columns.items():
                assert np.array_equal(column, original[0][name], equal_nan=column.dtype.kind == "f")

    return check


def cache_reader(tower: TextTower, folder: Path) -> tuple[bytes, Callable[[Path], Any], Callable[[Any, bytes], None]]:
    """The progress.json of a cache, what reads it in its place, and what must come of any other."""
    expected = harvest(tower, PROMPTS, cache=folder, batch_size=2).x.clone()
    (record,) = folder.glob("*/progress.json")

    def read(path: Path) -> Any:
        path.replace(record)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return harvest(tower, PROMPTS, cache=folder)

    def embeddings_are_the_same(found: Any, _content: bytes) -> None:
        assert same_bits(found.x, expected)

    return record.read_bytes(), read, embeddings_are_the_same


def records(folder: Path, tower: TextTower) -> list[Parser]:
    """All of them. `folder` is for files that are made on the way."""
    suite = json.dumps({"settings": SETTINGS, "versions": {"torch": "2"}}).encode()
    rows = [FOUND | dict.fromkeys(MEASURES, 1.0), FOUND | {"concept": "flat"} | dict.fromkeys(MEASURES, math.nan)]
    table = json.dumps({"stamp": STAMP, "rows": rows}).encode()
    progress, harvest_again, right = cache_reader(tower, folder / "cache")
    path = folder / "results.parquet"
    write_rows(path, [ROW] * 3, {"method": "UCE", "cost": "{}"})

    def read(path: Path) -> tuple:
        return read_rows([path])

    return [
        Parser("progress.json", ".json", progress, harvest_again, right, (forged_text,)),
        Parser("suite.json", ".json", suite, at("suite.json", lambda p: check_settings(p.parent, SETTINGS)),
               settings_are_those_of_the_file, (forged_text,)),
        Parser("concepts.json", ".json", table, lambda p: stored_rows(p, STAMP), rows_make_a_table, (forged_text,)),
        Parser("results.parquet", ".parquet", path.read_bytes(), read, rows_are_those_that_were_written(read(path))),
    ]  # fmt: skip
