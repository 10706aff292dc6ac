"""Tuning: every value of a grid is tried, for one concept and for several together, and the best of each is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from rich.console import Console

from snce.bench import lineup, tuning
from snce.bench.cells import Bench, Cell
from snce.bench.rows import read_rows
from snce.engines.spread import Crew
from tests.bench.running import SIZES, TUNED_ON, TUNED_SET, bench

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("small")

ALONE = tuning.Task("SLD medium", together=False)


@pytest.mark.parametrize(
    ("what", "name", "tuned_on"),
    [
        (("--concepts", "bomb"), ALONE.name, TUNED_ON),
        (("--concepts", "default", "--sets", "2"), f"{ALONE.name}, sets", TUNED_SET),
    ],
)
def test_tuning_tries_every_value_and_keeps_the_best(what, name, tuned_on, tmp_path, cells):
    assert bench(tmp_path, "--methods", "negative prompt, SLD medium", *what) == 0
    record = json.loads((tmp_path / "tuned.json").read_text())
    assert list(record) == [name]
    grid = record[name]["harmonic mean by value"]
    assert [float(v) for v in grid] == list(lineup.METHODS["SLD medium"](None).knob.grid)
    assert [(cell.setting, cell.erased) for cell in cells][: len(grid)] == [(float(v), tuple(tuned_on)) for v in grid]
    assert grid[str(record[name]["chosen"])] == max(grid.values())
    columns, _ = read_rows([tmp_path / "results.parquet"])
    assert set(columns["setting"][columns["method"] == "SLD medium"]) == {record[name]["chosen"]}


def test_one_concept_and_several_have_what_is_best_for_them(tmp_path):
    run, best = Bench(tmp_path), {"UCE": 10.0, "UCE, sets": 100.0, "SPM": 1.0, "SPM, sets": 0.1}
    cells = [
        Cell(name, None, erased, SIZES) for name in ("UCE", "SPM", "none") for erased in (("bomb",), ("bomb", "axe"))
    ]
    earlier = {"ESD-x": tuning.Tried("of that run", {1e-4: 0.5, 1e-5: 0.25, 1e-3: 0.125})}
    for task in (tuning.task_of(cell) for cell in cells if cell.method != "none"):
        scores = {v: float(v == best[task.name]) for v in lineup.METHODS[task.method](run.workshop).knob.grid}
        earlier[task.name] = tuning.Tried(tuning.stamp_of(run, task), scores)
    tuned = tuning.tune(run, cells, Crew(), Console(quiet=True), earlier)
    assert [cell.setting for cell in tuned] == [10.0, 100.0, 1.0, 0.1, None, None]
    assert [replace(cell, setting=None) for cell in tuned] == cells
    record = json.loads((tmp_path / "tuned.json").read_text())
    assert {name: found["chosen"] for name, found in record.items()} == best | {"ESD-x": 1e-4}
    assert tuning.read_tuned(tmp_path / "tuned.json") == earlier


def test_what_was_tried_on_one_concept_tells_nothing_of_several_and_a_method_may_begin_otherwise_there(tmp_path):
    run = Bench(tmp_path)
    stamps = {
        tuning.stamp_of(run, tuning.Task(name, together)) for name in ("UCE", "RECE") for together in (False, True)
    }
    assert len(stamps) == 4
    alone, several = (run.made(Cell("RECE", 5.0, erased, SIZES))[0] for erased in (("bomb",), ("bomb", "axe")))
    assert alone == lineup.with_setting(lineup.METHODS["RECE"](run.workshop), 5.0)
    assert several == lineup.with_setting(lineup.FOR_SETS["RECE"](run.workshop), 5.0)
    assert several != alone


def test_what_an_earlier_run_tried_is_not_tried_again(tmp_path, cells):
    grid = lineup.METHODS["SLD medium"](None).knob.grid
    scores = {str(v): 0.0 for v in grid[1:-1]} | {str(grid[-1]): 1.0}
    stamp = tuning.stamp_of(Bench(tmp_path), ALONE)
    earlier = {"SLD medium": {"harmonic mean by value": scores, "stamp": stamp}}
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    options = ("--methods", "SLD medium", "--concepts", "bomb", "--tuned", str(tmp_path / "earlier.json"))
    assert bench(tmp_path, *options) == 0
    tuned = json.loads((tmp_path / "tuned.json").read_text())["SLD medium"]
    assert tuned["chosen"] == grid[-1]
    assert [float(v) for v in tuned["harmonic mean by value"]] == list(grid)
    assert [cell.setting for cell in cells] == [grid[0], None, grid[-1]]  # tuning, the base model, the method


def test_what_was_tried_on_other_prompts_is_tried_again(tmp_path, cells, capsys, monkeypatch):
    grid = lineup.METHODS["SLD medium"](None).knob.grid
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "tuning_concepts", lambda: ["rainbow"])
        stamp = tuning.stamp_of(Bench(tmp_path), ALONE)
    earlier = {"SLD medium": {"harmonic mean by value": {str(v): 1.0 for v in grid}, "stamp": stamp}}
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    options = ("--methods", "SLD medium", "--concepts", "bomb", "--tuned", str(tmp_path / "earlier.json"))
    assert bench(tmp_path, *options) == 0
    assert [cell.setting for cell in cells][: len(grid)] == list(grid)
    assert "SLD medium is tuned anew" in capsys.readouterr().out


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
        ('{"UCE": {"harmonic mean by value": {"inf": 0.5}, "stamp": ""}}', "no finite number"),
    ],
)
def test_what_is_no_record_of_tuning_is_refused(text, complaint, tmp_path, capsys):
    path = tmp_path / "earlier.json"
    if text is not None:
        path.write_text(text)
    assert bench(tmp_path, "--tuned", str(path)) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
