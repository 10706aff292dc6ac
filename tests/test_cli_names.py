"""Names that look like markup of the terminal, or hold the code of an emoji, are printed as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import yaml

from snce.cli import main
from snce.commands.firing import show_firing
from tests.studio import NEUTRALS, TARGETS, find, generate

NAMES = ["art [/deco]", "gun [red]", "gun :bomb:"]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal on which nothing has to be broken."""
    monkeypatch.setenv("COLUMNS", "400")


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_concept_is_printed_as_it_is(name, studio, tmp_path, capsys):
    concept, eraser = tmp_path / "concept.yaml", tmp_path / "e.safetensors"
    concept.write_text(yaml.safe_dump({"name": name, "targets": TARGETS, "neutrals": NEUTRALS}))
    assert main(find(studio, eraser, concept=str(concept))) == 0
    assert f"neurons of {name!r} in text_encoder.final_layer_norm" in capsys.readouterr().out
    assert main(generate(studio, tmp_path / "x.png", TARGETS[0], erasers=(eraser,))) == 0
    assert f" {name} " in capsys.readouterr().out
    assert main(["inspect", str(eraser)]) == 0
    assert f"neuron of {name} " in capsys.readouterr().out


def test_folders_may_have_such_names(studio, tmp_path, capsys):
    model = copytree(studio.model, tmp_path / "art [" / "deco]")  # its path holds [/deco]
    assert main(generate(studio, tmp_path / "x.png", "a cat", model=str(model))) == 0
    out = tmp_path / "[" / "red] :bomb:"
    assert main(["bake", str(model), "--eraser", str(studio.eraser), "--out", str(out)]) == 0
    assert f"{out} written" in capsys.readouterr().out
    assert Path(out, "model_index.json").is_file()


def test_so_is_the_place_that_an_eraser_is_for(erasers, capsys):
    eraser = replace(erasers[0][0], module="[/b]")
    show_firing(eraser, [[0.0] * len(eraser.concepts)], ["a cat"])
    assert f"which neurons fired in {eraser.tower}.[/b]" in capsys.readouterr().out
