"""The one schema of all results."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from snce.bench import rows as module
from snce.bench.rows import Row, join_rows, read_metadata, read_rows, write_rows
from snce.errors import SnceError
from snce.storage import CHECKSUM

if TYPE_CHECKING:
    from pathlib import Path

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROW = Row(
    method="UCE", setting=1.0, erased="bomb", kind="direct", concept="bomb", prompt="a bomb, große", seed=2**62,
    style_named=False, target_before=True, target_after=False, kept_before=True, kept_after=True, style_before=True,
    style_after=False, identical=False, psnr=float("inf"), features_before=np.arange(3, dtype=np.float16),
    features_after=np.ones(3, np.float16),
)  # fmt: skip


def featureless(**changes) -> Row:
    return replace(ROW, features_before=np.empty(0, np.float16), features_after=np.empty(0, np.float16), **changes)


def test_rows_come_back_as_they_were(tmp_path):
    other = replace(ROW, method="none", suite="coco", model="m", text_score_after=31.0, detail='{"a": 1}')
    write_rows(tmp_path / "a.parquet", [ROW, other], {"cost": "{}"})
    columns, (metadata,) = read_rows([tmp_path / "a.parquet"])
    assert set(columns) == {f.name for f in fields(Row)}
    for i, row in enumerate((ROW, other)):
        for name, column in columns.items():
            assert np.array_equal(column[i], getattr(row, name), equal_nan=name.startswith("text_score"))
    assert metadata["cost"] == "{}"
    assert read_metadata(tmp_path / "a.parquet") == metadata


def test_a_row_of_the_precision_suite_needs_none_of_the_suites_columns():
    assert (ROW.suite, ROW.model, ROW.detail) == ("emblem", "emblem", "")
    assert np.isnan([ROW.text_score_before, ROW.text_score_after]).all()


def test_features_may_be_empty_and_files_join_in_their_order(tmp_path):
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    for i, path in enumerate(paths):
        write_rows(path, [featureless(seed=10 * i + j) for j in range(2)], {})
    join_rows(paths, tmp_path / "all.parquet")
    joined, _ = read_rows([tmp_path / "all.parquet"])
    assert joined["seed"].tolist() == [0, 1, 10, 11, 20, 21]
    assert joined["features_after"].shape == (6, 0)
    apart, metadata = read_rows(paths)
    assert len(metadata) == 3
    assert all(np.array_equal(joined[n], apart[n], equal_nan=n.startswith("text_score")) for n in apart)


def test_features_of_different_judges_are_not_mixed(tmp_path):
    write_rows(tmp_path / "a.parquet", [ROW], {})
    write_rows(tmp_path / "b.parquet", [featureless()], {})
    with pytest.raises(SnceError, match=r"different widths, \[0, 3\]"):
        read_rows([tmp_path / "a.parquet", tmp_path / "b.parquet"])


def test_rows_of_another_version_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "old.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(module, "VERSION", "snce-bench-1")
        write_rows(path, [ROW], {})
    for read in (lambda: read_rows([path]), lambda: read_metadata(path)):
        with pytest.raises(SnceError, match=r"old\.parquet .*'snce-bench-1'"):
            read()
    with pytest.raises(SnceError, match="no results"):
        read_rows([])


def test_a_join_that_fails_leaves_what_was_there(tmp_path):
    write_rows(tmp_path / "a.parquet", [ROW], {})
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    (tmp_path / "all.parquet").write_bytes(b"before")
    with pytest.raises(SnceError, match=r"b\.parquet"):
        join_rows([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "all.parquet")
    assert (tmp_path / "all.parquet").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "all.parquet", "b.parquet"]


def check_flips(path: Path, step: int) -> None:
    """Flip a bit of every `step`-th byte of a result file."""
    write_rows(path, [replace(ROW, seed=i, psnr=i / 7) for i in range(3)], {"cost": '{"bytes": 1}', "stamp": "s"})
    content, whole, found = path.read_bytes(), read_rows([path]), 0
    for i in range(0, len(content), step):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :])
        for read in (lambda: read_rows([path]), lambda: (whole[0], [read_metadata(path)])):
            try:
                columns, metadata = read()
            except SnceError:
                found += 1
                continue
            for name, column in columns.items():
                assert np.array_equal(column, whole[0][name], equal_nan=column.dtype.kind == "f")
            # else the name of the checksum was hit: it passes for a file of an earlier version
            assert metadata == whole[1] or CHECKSUM.encode() not in parquet.read_schema(path).metadata
    assert found > len(content) / step / 3


def test_a_flipped_bit_in_a_result_file_is_noticed(tmp_path):
    check_flips(tmp_path / "flip.parquet", step=97)


@pytest.mark.slow
def test_any_flipped_byte_in_a_result_file_is_noticed(tmp_path):
    check_flips(tmp_path / "flip.parquet", step=1)


def test_a_result_file_of_an_earlier_version_has_no_checksums_and_is_read(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "with_checksums", lambda metadata, table: metadata)
        write_rows(tmp_path / "old.parquet", [ROW, ROW], {"stamp": "s"})
    write_rows(tmp_path / "new.parquet", [ROW, ROW], {"stamp": "s"})
    assert CHECKSUM.encode() not in (tmp_path / "old.parquet").read_bytes()
    assert read_metadata(tmp_path / "old.parquet") == read_metadata(tmp_path / "new.parquet")
    assert read_rows([tmp_path / "old.parquet"])[0]["seed"].tolist() == [ROW.seed] * 2


def small_file(path: Path, rows: int, group: int, **changes: object) -> None:
    """A result file of so many copies of a row, `group` of them in each row group, with other values in some columns:
    what is the same everywhere takes next to no room."""
    write_rows(path, [featureless()], {})
    row = parquet.read_table(path).replace_schema_metadata({"format": module.VERSION})  # and no checksums
    for name, value in changes.items():
        i = row.column_names.index(name)
        row = row.set_column(i, row.schema.field(i), pyarrow.array([value], row.schema.field(i).type))
    table = row.take(pyarrow.array(np.zeros(group, np.int64)))
    with parquet.ParquetWriter(path, row.schema, compression="zstd") as writer:
        for _ in range(rows // group):
            writer.write_table(table)
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize(
    ("rows", "group", "changes"),
    [
        (4, 1, {"prompt": "x" * 25_000_000}),
        (1000, 500, {"prompt": "x" * 200_000}),  # once in each group, and in each of its rows
        (30, 10, {"features_before": np.zeros(2_000_000, np.float16)}),
    ],
    ids=["compressed", "once for many rows", "lists"],
)
def test_a_small_file_of_more_rows_than_memory_holds_is_refused(tmp_path, rows, group, changes):
    path = tmp_path / "bomb.parquet"
    small_file(path, rows, group, **changes)
    for read in (lambda: read_rows([path]), lambda: join_rows([path], tmp_path / "all.parquet")):
        with pytest.raises(SnceError, match=r"bomb\.parquet is damaged or forged: .* more than 1000 times its size"):
            read()
    assert [p.name for p in tmp_path.iterdir()] == ["bomb.parquet"]


def test_counts_that_are_forged_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    path = tmp_path / "forged.parquet"
    small_file(path, 12_345, 12_345)
    assert len(read_rows([path])[0]["seed"]) == 12_345
    content, forged = path.read_bytes(), _varint(1_000_000)
    assert content.count(_varint(12_345)) >= 2
    path.write_bytes(content.replace(_varint(12_345), forged))
    assert parquet.read_metadata(path).num_rows == 1_000_000
    monkeypatch.setattr(module, "MOST_PER_BYTE", 100)
    monkeypatch.setattr(module, "ALLOWED", 1_000_000)
    monkeypatch.delattr(parquet.ParquetFile, "iter_batches")
    with pytest.raises(SnceError, match=r"forged\.parquet is damaged or forged"):
        read_rows([path])


def _varint(number: int) -> bytes:
    """As a parquet file's description of itself has it (Thrift's compact protocol), of three bytes."""
    zigzag = 2 * number
    return bytes([zigzag & 127 | 128, zigzag >> 7 & 127 | 128, zigzag >> 14])


def test_the_same_row_many_times_is_read(tmp_path):
    write_rows(tmp_path / "same.parquet", [ROW] * 20_000, {})
    assert read_rows([tmp_path / "same.parquet"])[0]["seed"].tolist() == [ROW.seed] * 20_000
    write_rows(tmp_path / "none.parquet", [], {})
    assert len(read_rows([tmp_path / "none.parquet"])[0]["seed"]) == 0


def test_rows_that_do_not_fit_the_disk_leave_what_was_there(tmp_path):
    resource = pytest.importorskip("resource")
    write_rows(tmp_path / "part.parquet", [ROW], {})
    (tmp_path / "old.parquet").write_bytes(b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write in (
        lambda: write_rows(tmp_path / "old.parquet", [ROW], {}),
        lambda: join_rows([tmp_path / "part.parquet"], tmp_path / "old.parquet"),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(SnceError, match=r"cannot write .*old\.parquet: .*File too large"):
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / "old.parquet").read_bytes() == b"before"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["old.parquet", "part.parquet"]
