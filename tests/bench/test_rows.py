"""The one schema of all results."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from snce.bench import rows as module
from snce.bench.rows import Row, join_rows, read_metadata, read_rows, write_rows
from snce.errors import SnceError

pytest.importorskip("pyarrow")

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
