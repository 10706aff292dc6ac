"""The benchmark run as a whole, on the embedded model: what it writes, that it goes on, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from snce.bench import cells as cells_of_bench
from snce.bench import lineup, plan
from snce.bench.cells import MAKERS, Bench, Cell
from snce.bench.execute import train_shared
from snce.bench.methods.uce import UCE
from snce.bench.near import by_name
from snce.bench.prompts import Sizes
from snce.bench.rows import SEPARATOR, read_rows
from snce.bench.summary import group_stamps
from snce.engines.shards import shard
from snce.engines.spread import Crew
from snce.errors import SnceError
from snce.sae.formats import save_sae
from snce.sae.origin import SAEOrigin
from tests.bench.running import SIZES, bench, shrink

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("small")


def parts(folder):
    return {path.stem for path in (folder / "parts").glob("*.parquet")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, trained):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:  # `small` is of a test, this of all
        shrink(patch, trained)
        assert bench(folder, "--no-tune") == 0
    return folder


def test_a_run_writes_rows_figures_plots_and_a_report(finished):
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


def test_what_cannot_be_joined_is_refused_before_the_work(finished, tmp_path, cells, capsys, monkeypatch):
    summary = json.loads((finished / "summary.json").read_text())
    run = Bench(tmp_path)
    stamps = {
        SEPARATOR.join(erased): run.stamp(Cell("none", None, erased, SIZES)) for erased in (("bomb",), ("twemoji",))
    }
    told = {title: {found["stamp"] for found in methods.values()} for title, methods in summary.items()}
    assert told == {title: {stamp} for title, stamp in group_stamps(stamps).items()}
    monkeypatch.setattr(plan, "sizes_for", lambda _: replace(SIZES, direct=1))
    options = ("--no-tune", "--methods", "negative prompt", "--join", str(finished / "summary.json"))
    for shard_of_it in ("1/1", "1/2"):
        assert bench(tmp_path / "out", *options, "--shard", shard_of_it) == 2
        assert "was measured on other concepts or prompts" in " ".join(capsys.readouterr().err.split())
    assert cells == []
    assert not (tmp_path / "out" / "parts").exists()


def test_what_methods_share_is_trained_for_sets_too(tmp_path, monkeypatch):
    made = []
    monkeypatch.setitem(MAKERS, "UCE", lambda _: made.append("alone"))
    monkeypatch.setitem(lineup.FOR_SETS, "UCE", lambda _: made.append("sets"))
    train_shared(Bench(tmp_path), ["none", "UCE"], Crew(), Console(quiet=True))
    assert made == ["alone", "sets"]


def test_a_run_by_looks_is_told_by_the_same_measures(tmp_path, monkeypatch):
    monkeypatch.setattr(cells_of_bench, "by_looks", lambda lab, *_: by_name(lab))  # what is drawn: test_near.py
    monkeypatch.setattr(plan, "look_alike_sizes", lambda _: Sizes(2, 0, 0, pair=3, neighbour=3, other=0))
    options = ("--no-tune", "--methods", "SNCE", "--concepts", "bomb", "--look-alikes")
    assert bench(tmp_path, *options) == 0
    columns, _ = read_rows([tmp_path / "results.parquet"])
    ours = columns["method"] == "SNCE"
    assert [str(kind) for kind in columns["kind"][ours]] == ["direct"] * 2 + ["pair"] * 3 + ["neighbour"] * 3
    head = next(line for line in (tmp_path / "table.md").read_text().splitlines() if "kept: neighbours" in line)
    assert "harmonic mean" in head
    assert "synonym" not in head
    assert "others" not in head
    assert parts(tmp_path) == {"none__default__bomb__look-alikes", "SNCE__default__bomb__look-alikes"}
    named = (tmp_path / "look-alikes.md").read_text().splitlines()[2].strip("| ").split(" | ")[1].split(", ")
    near = {str(text) for text in columns["prompt"][ours & (columns["kind"] == "neighbour")]}
    assert all(any(name in text for text in near) for name in named[:3])


def test_ablations_are_tabled_on_any_concepts(tmp_path):
    assert bench(tmp_path, "--no-tune", "--methods", "SNCE, neurons: 2", "--concepts", "bomb,bomb") == 0
    assert "| **1** |" in (tmp_path / "ablations.md").read_text()
    assert set(parts(tmp_path)) == {"none__default__bomb", "SNCE__default__bomb", "neurons-2__default__bomb"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--methods", "UCE, magic"), "unknown method 'magic'; there are: 'none', 'negative prompt',"),
        (("--methods", " , "), "no method is named; there are: 'none', 'negative prompt',"),
        (("--methods", ""), "or 'all' of these, or 'ablations'"),
        (("--concepts", "unicorn horn"), "no bundled concept"),
        (("--concepts", ""), "names no concept"),
        (("--sets", "1,many"), "whole numbers"),
        (("--sets", "0"), "whole numbers"),
        (("--sets", "1,400"), "--sets 400 is too large"),
        (("--sets", "5"), "--sets 5 would leave out --concepts bomb,twemoji"),
        (("--sets", "5,10", "--concepts", "validation"), "--sets 5,10 would leave out --concepts validation"),
        (("--look-alikes",), "--look-alikes: 'twemoji' is a style"),
        (("--no-tune", "--tuned", "tuned.json"), "--tuned has no effect with --no-tune"),
        (("--shard", "3"), "must be like 3/8"),
        (("--shard", "9/8"), "must be like 3/8"),
        (("--workers", "0"), "at least 1"),
        (("--threshold", "0.5", "--eraser", "x"), "--eraser, --threshold cannot be used with --suite emblem"),
        (("--suite", "coco", "--look-alikes"), "--sets, --look-alikes cannot be used with --suite coco"),
        (("--suite", "coco", "--no-tune"), "--sets, --tune cannot be used with --suite coco"),
        (("--suite", "i2p", "--sets", "default", "--threshold", "0.1"), "must lie between 0.25"),
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
