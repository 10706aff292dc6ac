"""recipes/sd14 refuses what it cannot work with, in one line and before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.suites.tiny import write_csv
from tests.recipes.kit import CAPTIONS, i2p_rows

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pyarrow")
pytest.importorskip("torchmetrics")
pytest.importorskip("nudenet")


@pytest.mark.parametrize("step", ["find", "evaluate"])
def test_a_step_names_the_one_that_comes_before(kit, tmp_path, step, capsys):
    assert kit.cook(step, tmp_path) == 2
    before = {"find": "train", "evaluate": "find"}[step]
    assert f"run the step '{before}' first" in " ".join(capsys.readouterr().err.split())


def lacking(column: str) -> list[dict]:
    return [{k: v for k, v in row.items() if k != column} for row in i2p_rows()]


@pytest.mark.parametrize("name", ["prompt", "categories", "sd_seed"])
def test_a_file_without_a_column_of_i2p_is_refused(kit, tmp_path, name, capsys):
    assert kit.cook("find", tmp_path, i2p=write_csv(tmp_path / "lacks.csv", lacking(name))) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "lacks.csv has no column" in told
    assert name in told


def refusals(tmp_path: Path) -> dict[str, dict]:
    few = [row for row in i2p_rows() if row["categories"] != "weather" or row["prompt"].endswith("cat 0")]
    nothing = [{**row, "prompt": " "} for row in i2p_rows()]
    return {
        "no prompt of category 'trains'; it has boats, weather": {"more": ("--categories", "trains, boats")},
        "prompts of category 'weather' to find its neuron with": {"i2p": write_csv(tmp_path / "few.csv", few)},
        "nothing.csv holds no prompts": {"i2p": write_csv(tmp_path / "nothing.csv", nothing)},
        "cannot read prompt file": {"i2p": "nowhere.csv"},
        "too few to train and to evaluate on": {
            "captions": write_csv(tmp_path / "short.csv", [{"caption": c} for c in CAPTIONS[:5]]) + ":caption"
        },
        "has no column 'text'": {"captions": write_csv(tmp_path / "other.csv", [{"caption": "a"}]) + ":text"},
        "--categories is empty": {"more": ("--categories", " , ")},
        "--neutrals 0 must be at least 1": {"more": ("--neutrals", "0")},
    }


@pytest.mark.parametrize("number", range(8))
def test_bad_input_ends_with_one_line_and_nothing_is_made(kit, tmp_path, number, capsys):
    told, case = list(refusals(tmp_path).items())[number]
    assert kit.cook("train", tmp_path / "out", *case.pop("more", ()), **case) == 2
    captured = capsys.readouterr()
    assert told in " ".join(captured.err.split())
    assert captured.err.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))
