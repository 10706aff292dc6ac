"""The benchmark run as a whole, on the embedded model: what it writes, that it goes on, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from snce.bench import lineup, plan, tuning, turns
from snce.bench.cells import MAKERS, Bench, Cell
from snce.bench.methods.uce import UCE
from snce.bench.prompts import Sizes
from snce.bench.rows import read_rows
from snce.cli import main
from snce.engines.shards import shard
from snce.errors import SnceError
from snce.sae.formats import save_sae
from snce.sae.origin import SAEOrigin

pytest.importorskip("pyarrow")

SIZES = Sizes(direct=2, synonym=1, sentence=1, pair=2, neighbour=1, other=1)
TUNED_ON = ["laptop"]
OPTIONS = ("--methods", "UCE, SNCE", "--concepts", "bomb,twemoji", "--sets", "1")


@pytest.fixture(autouse=True)
def small(monkeypatch, trained):
    """The SAE of the tests, few prompts, and costs of a few steps."""
    monkeypatch.setattr(lineup.Workshop, "sae", trained.sae)
    monkeypatch.setattr(plan, "sizes_for", lambda _: SIZES)
    monkeypatch.setattr(tuning, "TUNING_SIZES", SIZES)
    monkeypatch.setattr(tuning, "tuning_concepts", lambda: TUNED_ON)
    monkeypatch.setattr(turns, "TURNS", 1)
    monkeypatch.setattr(turns, "draw", partial(turns.draw, steps=1))


def bench(folder, *options):
    return main(["bench", "--out", str(folder), *OPTIONS, *options])


def parts(folder):
    return {path.stem for path in (folder / "parts").glob("*.parquet")}


@pytest.fixture
def cells(monkeypatch):
    """The cells that were run."""
    seen, original = [], Bench.run

    def counting(self, cell):
        seen.append(cell)
        return original(self, cell)

    monkeypatch.setattr(Bench, "run", counting)
    return seen


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


def test_a_run_writes_rows_figures_plots_and_a_report(finished):
    assert bench(finished, "--no-tune") == 0
    columns, metadata = read_rows([finished / "results.parquet"])
    assert set(columns["method"]) == {"none", "UCE", "SNCE"}
    assert set(columns["erased"]) == {"bomb", "twemoji"}
    assert len(metadata) == 1
    summary = json.loads((finished / "summary.json").read_text())["One concept at a time"]
    assert summary["none"]["identical"]["value"] == 1
    assert summary["none"]["bytes"] == 0
    assert summary["SNCE"]["bytes"] < summary["UCE"]["bytes"]
    assert summary["none"]["added time per picture"] == 0
    assert set((finished / "times").iterdir()) == {
        finished / "times" / f"{n}__default__bomb.json" for n in ("UCE", "SNCE")
    }
    assert "| SNCE |" in (finished / "table.md").read_text()
    report = (finished / "report.html").read_text()
    assert "http" not in report.replace("data:image", "")
    assert report.count("<img") == 2 + 6
    for name in ("trade-off.png", "heat-map.png"):
        assert (finished / name).stat().st_size > 1000


def test_the_base_model_changes_no_byte_and_erases_nothing(finished):
    columns, _ = read_rows([finished / "results.parquet"])
    base = columns["method"] == "none"
    assert columns["identical"][base].all()
    assert np.isinf(columns["psnr"][base]).all()
    assert (columns["target_before"] == columns["target_after"])[base].all()


def test_a_finished_run_is_not_run_again(finished, cells):
    before = (finished / "results.parquet").read_bytes()
    assert bench(finished, "--no-tune") == 0
    assert cells == []
    assert (finished / "results.parquet").read_bytes() == before


def test_an_interrupted_run_goes_on_to_the_same_rows(finished, tmp_path, monkeypatch):
    original = Bench.run

    def interrupted(self, cell):
        if len(parts(tmp_path)) == 2:
            raise KeyboardInterrupt
        return original(self, cell)

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "run", interrupted)
        assert bench(tmp_path, "--no-tune") == 130
    assert len(parts(tmp_path)) == 2
    assert bench(tmp_path, "--no-tune") == 0
    ours, theirs = (read_rows([folder / "results.parquet"])[0] for folder in (tmp_path, finished))
    for name, column in ours.items():
        assert np.array_equal(column, theirs[name], equal_nan=column.dtype.kind == "f")


def test_two_processes_draw_the_same_pictures_as_one(finished, tmp_path, laboratory, trained):
    tower = laboratory.tower
    told = lineup.how_trained(lineup.TRAINING, lineup.CAPTIONS, lineup.SAE)  # it stands in for the one of that make
    origin = SAEOrigin(tower.fingerprint, tower.name, tower.path, tower.pipeline, told)
    save_sae(trained.sae, tmp_path / "sae.safetensors", origin)  # fixtures do not reach other processes
    assert bench(tmp_path, "--no-tune", "--workers", "2") == 0
    ours, theirs = (read_rows([folder / "results.parquet"])[0] for folder in (tmp_path, finished))
    for name, column in ours.items():
        assert np.array_equal(column, theirs[name], equal_nan=column.dtype.kind == "f")


def test_shards_share_the_cells_without_rest():
    cells = [Cell(m, None, (c,)) for c in ("bomb", "axe", "twemoji") for m in ("none", "UCE")]
    shards = [shard(cells, f"{i}/4") for i in (1, 2, 3, 4)]
    assert sorted(c.key for part in shards for c in part) == sorted(c.key for c in cells)
    assert shards[2] == [cells[2]]  # the third of four
    assert shard(cells, "1/1") == cells


def test_tuning_tries_every_value_and_keeps_the_best(tmp_path):
    assert bench(tmp_path, "--methods", "negative prompt, SLD medium", "--concepts", "bomb") == 0
    record = json.loads((tmp_path / "tuned.json").read_text())
    grid = record["SLD medium"]["harmonic mean by value"]
    assert {float(v) for v in grid} == set(lineup.METHODS["SLD medium"](None).knob.grid)
    assert grid[str(record["SLD medium"]["chosen"])] == max(grid.values())
    columns, _ = read_rows([tmp_path / "results.parquet"])
    assert set(columns["setting"][columns["method"] == "SLD medium"]) == {record["SLD medium"]["chosen"]}


def test_what_an_earlier_run_tried_is_not_tried_again(tmp_path, cells):
    grid = lineup.METHODS["SLD medium"](None).knob.grid
    scores = {str(v): 0.0 for v in grid[1:-1]} | {str(grid[-1]): 1.0}
    stamp = tuning.stamp_of(Bench(tmp_path), "SLD medium", TUNED_ON)
    earlier = {"SLD medium": {"harmonic mean by value": scores, "stamp": stamp}}
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    options = ("--methods", "SLD medium", "--concepts", "bomb", "--tuned", str(tmp_path / "earlier.json"))
    assert bench(tmp_path, *options) == 0
    tuned = json.loads((tmp_path / "tuned.json").read_text())["SLD medium"]
    assert tuned["chosen"] == grid[-1]
    assert [float(v) for v in tuned["harmonic mean by value"]] == list(grid)
    assert [cell.setting for cell in cells] == [grid[0], None, grid[-1]]  # tuning, the base model, the method


def test_what_was_tried_on_other_prompts_is_tried_again(tmp_path, cells, capsys):
    grid = lineup.METHODS["SLD medium"](None).knob.grid
    stamp = tuning.stamp_of(Bench(tmp_path), "SLD medium", ["rainbow"])
    earlier = {"SLD medium": {"harmonic mean by value": {str(v): 1.0 for v in grid}, "stamp": stamp}}
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    options = ("--methods", "SLD medium", "--concepts", "bomb", "--tuned", str(tmp_path / "earlier.json"))
    assert bench(tmp_path, *options) == 0
    assert [cell.setting for cell in cells][: len(grid)] == list(grid)
    assert "SLD medium is tuned anew" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["method", "prompts"])
def test_parts_of_a_method_or_prompts_that_have_changed_are_made_anew(change, finished, tmp_path, cells, monkeypatch):
    shutil.copytree(finished, tmp_path / "copy")
    if change == "method":
        monkeypatch.setitem(MAKERS, "UCE", lambda _: UCE(regularisation=0.25))
    else:
        monkeypatch.setattr(plan, "sizes_for", lambda _: replace(SIZES, direct=1))
    assert bench(tmp_path / "copy", "--no-tune") == 0
    assert {cell.method for cell in cells} == ({"UCE"} if change == "method" else {"none", "UCE", "SNCE"})


def test_methods_of_another_run_on_the_same_prompts_are_in_the_tables(finished, tmp_path):
    options = ("--no-tune", "--methods", "negative prompt", "--join", str(finished / "summary.json"))
    assert bench(tmp_path, *options) == 0
    summary, other = (json.loads((f / "summary.json").read_text()) for f in (tmp_path, finished))
    assert summary.keys() == other.keys()
    for title, methods in other.items():
        assert set(summary[title]) == {"negative prompt", *methods}
        assert summary[title]["SNCE"] == methods["SNCE"]
    assert "| SNCE |" in (tmp_path / "table.md").read_text()


def test_a_shard_joins_the_other_run_when_all_parts_are_there(finished, tmp_path, capsys):
    options = ("--no-tune", "--methods", "negative prompt", "--join", str(finished / "summary.json"))
    assert bench(tmp_path, *options, "--shard", "2/2") == 0
    assert "2 of 4 parts are still to come" in capsys.readouterr().out
    assert "| SNCE |" not in (tmp_path / "table.md").read_text()
    assert bench(tmp_path, *options, "--shard", "1/2") == 0
    assert "| SNCE |" in (tmp_path / "table.md").read_text()


def test_ablations_are_tabled_on_any_concepts(tmp_path):
    assert bench(tmp_path, "--no-tune", "--methods", "SNCE, neurons: 2", "--concepts", "bomb,bomb") == 0
    assert "| **1** |" in (tmp_path / "ablations.md").read_text()
    assert set(parts(tmp_path)) == {"none__default__bomb", "SNCE__default__bomb", "neurons-2__default__bomb"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot read"),
        ("{", "is no tuned.json"),
        ("[]", "is no tuned.json"),
        ('{"UCE": {"chosen": 1}}', "is no tuned.json"),
        ('{"UCE": {"harmonic mean by value": {"1": 1}, "stamp": 7}}', "is no tuned.json"),
        ('{"UCE": {"harmonic mean by value": {"high": 1}, "stamp": ""}}', "is no tuned.json"),
        ('{"UCE": {"harmonic mean by value": {"1": 7}, "stamp": ""}}', "from 0 to 1"),
        ('{"UCE": {"harmonic mean by value": {"1": NaN}, "stamp": ""}}', "from 0 to 1"),
    ],
)
def test_what_is_no_record_of_tuning_is_refused(text, complaint, tmp_path, capsys):
    path = tmp_path / "earlier.json"
    if text is not None:
        path.write_text(text)
    assert bench(tmp_path, "--tuned", str(path)) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--methods", "UCE, magic"), "unknown method 'magic'"),
        (("--methods", ""), "unknown method"),
        (("--concepts", "unicorn horn"), "no bundled concept"),
        (("--sets", "1,many"), "whole numbers"),
        (("--sets", "0"), "whole numbers"),
        (("--sets", "1,400"), "--sets 400 is too large"),
        (("--shard", "3"), "must be like 3/8"),
        (("--shard", "9/8"), "must be like 3/8"),
        (("--workers", "0"), "at least 1"),
        (("--threshold", "0.5", "--eraser", "x"), "--eraser, --threshold cannot be used with --suite emblem"),
        (("--suite", "coco", "--no-tune"), "--sets, --tune cannot be used with --suite coco"),
        (("--suite", "i2p", "--sets", "1,5,10,25", "--threshold", "0.1"), "must lie between 0.25"),
    ],
)
def test_bad_options_are_one_clear_line(options, complaint, tmp_path, capsys):
    assert bench(tmp_path, *options) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "results.parquet").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet" * 50])
def test_a_damaged_part_is_named(content, tmp_path):
    path = tmp_path / "part.parquet"
    path.write_bytes(content)
    with pytest.raises(SnceError, match=r"part\.parquet"):
        read_rows([path])
