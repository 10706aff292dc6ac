"""What decides every figure: what the judge finds of what a prompt asks for, before and after, and which objects count
as neighbours."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from snce.bench import lineup
from snce.bench.cells import Bench, Cell, _rows
from snce.bench.judged import Seen, look
from snce.bench.prompts import BenchPrompt, Sizes
from snce.demo.pictures import draw
from snce.emblem.vocabulary import vocabulary

STYLES = vocabulary().styles


def asked(concept: str, *objects: str, style: str | None = None, text: str = "", seed: int = 0) -> BenchPrompt:
    return BenchPrompt("direct", concept, text, objects, style, seed)


class Question(NamedTuple):
    """What is asked about a picture, and what is true of it."""

    picture: str
    prompt: BenchPrompt
    target: bool
    kept: bool


VIOLIN, BOMB, BOTH = "a violin in flat style", "a bomb in noto style", "a violin and a bomb in noto style"
QUESTIONS = [
    Question(VIOLIN, asked("violin", "violin"), True, True),
    Question(VIOLIN, asked("violin", "violin", style="flat"), True, True),
    Question(VIOLIN, asked("bomb", "bomb"), False, True),
    Question(VIOLIN, asked("bomb", "bomb", "violin"), False, True),
    Question(VIOLIN, asked("violin", "bomb", "violin"), True, False),
    Question(VIOLIN, asked("axe", "axe", "bomb"), False, False),
    Question(VIOLIN, asked("", "violin"), False, True),
    Question(VIOLIN, asked("", "bomb"), False, False),
    Question(VIOLIN, asked("", "violin", "bomb"), False, False),
    Question(VIOLIN, asked("flat", "violin", style="flat"), True, True),
    Question(VIOLIN, asked("flat", "bomb", style="flat"), True, False),
    Question(VIOLIN, asked("noto", "violin", style="noto"), False, True),
    Question(BOMB, asked("bomb", "bomb"), True, True),
    Question(BOMB, asked("violin", "violin", "bomb"), False, True),
    Question(BOMB, asked("noto", "bomb", style="noto"), True, True),
    Question(BOMB, asked("flat", "violin", style="flat"), False, False),
    Question(BOTH, asked("bomb", "bomb", "violin"), True, True),
    Question(BOTH, asked("violin", "bomb", "violin"), True, True),
    Question(BOTH, asked("", "bomb", "violin"), False, True),
    Question(BOTH, asked("axe", "axe", "violin"), False, True),
]


@pytest.fixture(scope="module")
def pictures(laboratory):
    """Of Emblem, by what they show."""
    texts = (VIOLIN, BOMB, BOTH)
    return dict(zip(texts, draw(laboratory.pipe, [asked("", text=text) for text in texts]), strict=True))


def test_the_judge_is_asked_for_the_concept_and_for_all_else_that_a_prompt_names(pictures, laboratory):
    shown = torch.stack([pictures[q.picture] for q in QUESTIONS])
    seen = look(laboratory.judge, shown, [q.prompt for q in QUESTIONS])
    assert [bool(found) for found in seen.target] == [q.target for q in QUESTIONS]
    assert [bool(found) for found in seen.kept] == [q.kept for q in QUESTIONS]
    expected = {VIOLIN: "flat", BOMB: "noto", BOTH: "noto"}
    assert [STYLES[i] for i in seen.style] == [expected[q.picture] for q in QUESTIONS]
    assert torch.equal(seen.features, laboratory.judge.features(shown.float() / 255))


def test_a_row_tells_what_was_before_from_what_is_after():
    noto, twemoji, flat = (STYLES.index(style) for style in ("noto", "twemoji", "flat"))
    prompts = [
        asked("bomb", "bomb", style="twemoji", text="a bomb, twemoji", seed=7),
        asked("", "violin", text="a violin", seed=8),
        asked("", "violin", style="noto"),
    ]
    before = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    after = before.clone()
    after[0, 1, 2, 3] = 255
    was = Seen(
        torch.tensor([True, False, False]),
        torch.tensor([True, True, False]),
        torch.tensor([twemoji, flat, twemoji]),
        torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    )
    now = Seen(
        torch.tensor([False, False, False]),
        torch.tensor([True, False, True]),
        torch.tensor([noto, noto, noto]),
        -was.features,
    )
    rows = _rows(Cell("UCE", 3.0, ("bomb", "axe")), 3.0, prompts, (before, after), (was, now))
    assert [(row.prompt, row.seed, row.concept) for row in rows[:2]] == [("a bomb, twemoji", 7, "bomb"),
                                                                        ("a violin", 8, "")]  # fmt: skip
    assert {(row.method, row.setting, row.erased, row.kind) for row in rows} == {("UCE", 3.0, "bomb + axe", "direct")}
    assert [(row.target_before, row.target_after) for row in rows] == [(True, False), (False, False), (False, False)]
    assert [(row.kept_before, row.kept_after) for row in rows] == [(True, True), (True, False), (False, True)]
    assert [row.style_named for row in rows] == [True, False, True]
    styles = [(row.style_before, row.style_after) for row in rows]
    assert styles == [(True, False), (True, False), (False, True)]  # the second names none: it should stay as it was
    assert [row.identical for row in rows] == [False, True, True]
    assert [row.psnr for row in rows] == [pytest.approx(10 * math.log10(3 * 64 * 64)), math.inf, math.inf]
    for row, features in zip(rows, was.features.numpy(), strict=True):
        assert np.array_equal(row.features_before, features)
        assert np.array_equal(row.features_after, -features)


@pytest.fixture
def bench(tmp_path, laboratory, monkeypatch):
    monkeypatch.setattr(lineup.Workshop, "lab", laboratory)
    return Bench(tmp_path)


def test_a_cell_compares_the_models_own_pictures_with_those_of_the_method(bench, laboratory):
    cell = Cell("UCE (all tokens)", 1000.0, ("bomb",), Sizes(4, 0, 0, 0, neighbour=0, other=2))
    rows, _, _ = bench.run(cell)
    prompts = bench.prompts(cell)
    own = look(laboratory.judge, draw(laboratory.pipe, prompts), prompts)
    assert [row.prompt for row in rows] == [prompt.text for prompt in prompts]
    assert np.array_equal([row.features_before for row in rows], own.features.half().numpy())
    assert [row.target_before for row in rows] == own.target.tolist() == [True] * 4 + [False] * 2
    assert not any(row.target_after or row.identical for row in rows)
    assert all(row.kept_before and row.kept_after for row in rows)


@pytest.mark.parametrize("erased", [["cigarette"], ["cigarette", "pencil", "candle"], ["bomb", "twemoji"], ["car"]])
def test_neighbours_are_the_nearest_names_that_are_not_erased(erased, bench, laboratory):
    words = vocabulary()
    names = list(words.objects)
    objects = [name for name in erased if name in words.objects]
    text = laboratory.pipe.encode_prompt([f"a {name}" for name in names], "cpu", 1, False)[0].detach()
    last = text[:, -1].double() - text[:, -1].double().mean(0)
    directions = (last / last.norm(dim=1, keepdim=True)).numpy()
    found = bench.neighbours(Cell("none", None, tuple(erased)))
    assert list(found) == objects
    for concept, near in found.items():
        likeness = dict(zip(names, (directions @ directions[names.index(concept)]).tolist(), strict=True))
        retained = set.intersection(*(set(words.others(name)) for name in objects))  # no instance of any of them
        assert near == sorted(retained, key=likeness.__getitem__, reverse=True)[:5]
        assert not set(near) & set(erased)


def test_a_style_has_no_neighbours(bench):
    assert bench.neighbours(Cell("none", None, ("twemoji",))) == {}
