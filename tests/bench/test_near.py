"""What lies near an object by its looks: what the judge takes for it, whatever the style."""

from __future__ import annotations

import pytest
import torch

from snce.bench import near
from snce.bench.cells import Bench, Cell
from snce.bench.lineup import Workshop
from snce.emblem.captions import with_article
from snce.emblem.judge import Verdict
from snce.emblem.vocabulary import vocabulary

PENCIL_LIKE = ("cigarette", "candle", "pencil")


class FakeJudge:
    """Sees in a picture of an object that object, and in those of `PENCIL_LIKE` a little of each of the three."""

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        return (pictures[:, 0, 0, 0] * 255).round()

    def of_features(self, features: torch.Tensor) -> Verdict:
        names = list(vocabulary().objects)
        seen = torch.full((len(features), len(names)), 0.01)
        for row, i in enumerate(features.long().tolist()):
            seen[row, i] = 0.9
            if names[i] in PENCIL_LIKE:
                seen[row, [names.index(name) for name in PENCIL_LIKE]] = 0.3
        return Verdict(seen, torch.empty(len(features), 0))


@pytest.fixture
def bench(tmp_path, laboratory, monkeypatch) -> Bench:
    monkeypatch.setattr(Workshop, "lab", laboratory)
    monkeypatch.setattr(laboratory, "judge_fingerprint", "fake")
    monkeypatch.setattr(laboratory, "judge", FakeJudge())
    return Bench(tmp_path)


@pytest.fixture
def drawn(monkeypatch) -> list:
    """Calls of `draw`; the picture of an object is of its number's colour."""
    calls, numbers = [], {with_article(name): i for i, name in enumerate(vocabulary().objects)}

    def paint(pipe, prompts, advance=None):
        calls.append(prompts)
        colours = torch.tensor([float(numbers[p.text]) for p in prompts])
        return colours[:, None, None, None].expand(-1, 3, 64, 64)

    monkeypatch.setattr(near, "draw", paint)
    return calls


def test_look_alikes_are_what_the_judge_takes_for_the_object(bench, drawn):
    found = bench.neighbours(Cell("none", None, ("cigarette",), look_alikes=True))["cigarette"]
    assert set(found[:2]) == {"candle", "pencil"}
    assert len(found) == near.NEAREST
    assert set(bench.neighbours(Cell("none", None, ("cigarette", "pencil"), look_alikes=True))["pencil"]) >= {"candle"}


def test_what_the_judge_takes_for_the_object_itself_is_no_look_alike(bench, drawn, monkeypatch):
    """It would be found where it is kept, as if it were not erased."""
    monkeypatch.setattr(near, "PRESENT", 0.3)
    found = bench.neighbours(Cell("none", None, ("cigarette",), look_alikes=True))["cigarette"]
    assert not {"candle", "pencil"} & set(found)


def test_what_is_erased_is_no_look_alike(bench, drawn):
    found = bench.neighbours(Cell("none", None, ("cigarette", "candle"), look_alikes=True))
    assert "pencil" in found["cigarette"]
    assert "candle" not in found["cigarette"]


def test_pictures_are_drawn_once_for_a_folder(bench, drawn):
    cell = Cell("none", None, ("cigarette",), look_alikes=True)
    prompts = bench.prompts(cell)
    assert Bench(bench.folder).prompts(cell) == prompts
    assert len(drawn) == 1
    assert len(drawn[0]) == near.LOOKS * len(vocabulary().objects)
    assert {seed for _, seed in drawn[0]} == set(range(near.LOOKS))


def test_nobody_else_draws_them(bench, drawn):
    assert bench.prompts(Cell("none", None, ("cigarette",))) != bench.prompts(
        Cell("none", None, ("cigarette",), look_alikes=True)
    )
    assert len(drawn) == 1


def test_the_table_tells_what_looks_like_what(bench, drawn):
    sets = [("cigarette",), ("candle", "bomb")]
    found = {erased: bench.neighbours(Cell("none", None, erased, look_alikes=True)) for erased in sets}
    _, _, cigarette, candle, bomb = near.table(found).splitlines()
    assert cigarette == f"| cigarette | {', '.join(found['cigarette',]['cigarette'])} |"
    assert candle.startswith("| candle (of 2 together) | cigarette, pencil")
    assert bomb.startswith("| bomb (of 2 together) | ")
