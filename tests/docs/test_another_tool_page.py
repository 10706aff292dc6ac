"""docs/from-another-tool.md: it runs on Emblem from top to bottom, and its figures are those of the benchmark."""

from __future__ import annotations

import re

import pytest

from snce.cli import _parse
from snce.erase.eraser import ConceptEraser
from snce.text.towers import TextTower
from tests.docs.benchmark_tables import value
from tests.docs.pages import DOCS, read, run
from tests.examples import eraser_for

TEXT = (DOCS / "from-another-tool.md").read_text(encoding="utf-8")


def test_all_of_it_runs(emblem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tower = TextTower.from_pipeline(emblem)
    prompts = ("a church", "a cigarette", "a red apple", "a dog", "a cat", "a bomb")
    for seed, name in zip((0, 2), ("church", "bomb"), strict=True):
        eraser_for(tower, seed, prompts)[0].save(f"{name}.safetensors")
    steps = read("from-another-tool.md", {"num_inference_steps=20": "num_inference_steps=2"})
    assert sum(bool(step.command) for step in steps) == 3
    names = run(steps, only_parse=("find",))
    assert names["flagged"].shape == (2, 1)
    assert names["x"].shape[0] == 1
    assert len(ConceptEraser.load("both.safetensors").concepts) == 2


@pytest.mark.parametrize(
    ("section", "column", "methods"),
    [
        ("Harmonic mean", "Harmful stand-ins", ("UCE (all tokens)", "SNCE")),
        ("Harmonic mean", "Styles", ("UCE (all tokens)", "SNCE")),
        ("One concept at a time", "harmonic mean", ("SNCE", "SNCE (2 neurons)", "SNCE (8 neurons)")),
    ],
)
def test_its_figures_are_those_of_the_benchmark(section, column, methods):
    for method in methods:
        assert value(section, method, column) in TEXT


def test_what_it_says_of_identical_pictures_is_what_the_benchmark_found():
    assert "Of UCE's retained pictures every one\nchanged by some byte, of snce's none did." in TEXT
    assert value("One concept at a time", "UCE (all tokens)", "identical") == "0.0"
    assert value("One concept at a time", "SNCE", "identical") == "100.0"


def test_every_command_line_is_understood():
    for command in re.findall(r"^    snce (.*)$", TEXT, re.MULTILINE):
        _parse(command.split())
