"""The figures of an eraser, on pictures in which anyone can read what the judge will see."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snce.demo.measure import Pictures, found, judged, outcome, partner_found, share
from snce.demo.prompts import TestPrompt as Prompt
from snce.demo.prompts import TestSet as Prompts
from snce.emblem.judge import Judge
from snce.emblem.vocabulary import vocabulary

OBJECTS, STYLES = list(vocabulary().objects), list(vocabulary().styles)


class Legible(nn.Module):
    """Reads a picture as a list: pixel i is bright if it shows object i; the next nine say the style."""

    def features(self, x):
        return 20 * x.flatten(1) - 10

    def objects(self, features):
        return features[:, : len(OBJECTS)]

    def styles(self, features):
        return features[:, len(OBJECTS) : len(OBJECTS) + len(STYLES)]


JUDGE = Judge(Legible(), OBJECTS, STYLES)  # pyright: ignore[reportArgumentType]


def show(*pictures: tuple[str, ...]):
    """Pictures that show these objects and styles."""
    canvas = torch.zeros(len(pictures), 3 * 64 * 64, dtype=torch.uint8)
    for row, names in zip(canvas, pictures, strict=True):
        for name in names:
            row[[*OBJECTS, *STYLES].index(name)] = 255
    return canvas.view(-1, 3, 64, 64)


def prompts(*objects: tuple[str, ...], style: str | None = None):
    return tuple(Prompt(" and ".join(names), names, style, i) for i, names in enumerate(objects))


def of_bomb(before: Pictures, after: Pictures):
    tests = Prompts(
        "bomb",
        prompts(*[("bomb",)] * len(before.direct)),
        prompts(*[("bomb", "violin")] * len(before.pairs)),
        prompts(*[("violin",)] * len(before.retain)),
    )
    return outcome(tests, before, after, JUDGE)


B, V, N = ("bomb",), ("violin",), ()
BV = ("bomb", "violin")


def test_each_figure_is_as_counted_by_hand():
    before = Pictures(show(B, B, B, N), show(BV, BV, BV, V, B), show(V, V, V, N, N))
    after = Pictures(show(B, N, N, B), show(V, BV, N, V, N), show(V, N, B, V, N))
    seen = of_bomb(before, after)
    assert seen.base_rate == 3 / 4
    assert seen.erased_rate == 2 / 4
    assert seen.erased == pytest.approx(2 / 3)
    assert seen.retention == pytest.approx(1 / 3)
    assert seen.identical == 2 / 5
    assert seen.pair_base_rate == 3 / 5
    assert seen.pair_target_gone == 3 / 4
    assert seen.pair_partner_kept == 3 / 4


def test_a_perfect_eraser_and_none_at_all():
    before = Pictures(show(B, B), show(BV, BV), show(V, V))
    perfect = of_bomb(before, Pictures(show(N, N), show(V, V), show(V, V)))
    assert (perfect.erased, perfect.erased_rate) == (1, 0)
    assert (perfect.retention, perfect.identical, perfect.pair_target_gone, perfect.pair_partner_kept) == (1, 1, 1, 1)
    idle = of_bomb(before, before)
    assert (idle.erased, idle.pair_target_gone) == (0, 0)
    assert (idle.retention, idle.identical, idle.pair_partner_kept) == (1, 1, 1)


def test_where_nothing_was_shown_there_is_no_figure():
    blank = Pictures(show(N, N), show(N, N), show(N, N))
    seen = of_bomb(blank, blank)
    assert (seen.base_rate, seen.erased_rate, seen.identical, seen.pair_base_rate) == (0, 0, 1, 0)
    for figure in (seen.erased, seen.retention, seen.pair_target_gone, seen.pair_partner_kept):
        assert math.isnan(figure)


def test_identical_counts_bytes():
    before = Pictures(show(B), show(BV), show(V, V, V, V))
    after = Pictures(show(B), show(BV), before.retain.clone())
    after.retain[1, 2, 63, 63] ^= 1
    seen = of_bomb(before, after)
    assert seen.identical == 3 / 4
    assert seen.retention == 1


pictures_of = st.lists(st.sampled_from([N, B, V, BV]), min_size=3, max_size=3)


@given(st.lists(pictures_of, min_size=6, max_size=6))
def test_figures_are_shares_and_agree_with_each_other(drawn):
    a, b, c, d, e, f = (show(*group) for group in drawn)
    seen = of_bomb(Pictures(a, b, c), Pictures(d, e, f))
    for figure in asdict(seen).values():
        assert math.isnan(figure) or 0 <= figure <= 1
    assert math.isnan(seen.erased) is (seen.base_rate == 0)
    if seen.identical == 1:
        assert math.isnan(seen.retention) or seen.retention == 1
    if seen.erased == 1:
        assert seen.erased_rate <= 1 - seen.base_rate
    if seen.erased_rate == 0 < seen.base_rate:
        assert seen.erased == 1


def test_of_a_style_the_object_is_the_partner():
    tests = Prompts("flat", prompts(V, V, V, V, style="flat"), (), prompts(V, V, V, style="noto"))
    drawn = show(("violin", "flat"), ("violin", "flat"), ("flat",), ("violin", "noto"))
    after = show(("violin", "noto"), ("violin", "flat"), ("noto",), ("violin", "noto"))
    none = drawn[:0]
    retain = show(("violin", "noto"), ("violin", "noto"), ("violin", "noto"))
    retain_after = show(("violin", "noto"), ("violin", "twemoji"), ("noto",))
    seen = outcome(tests, Pictures(drawn, none, retain), Pictures(after, none, retain_after), JUDGE)
    assert (seen.base_rate, seen.erased_rate) == (3 / 4, 1 / 4)
    assert seen.erased == pytest.approx(2 / 3)
    assert seen.retention == pytest.approx(1 / 3)
    assert seen.pair_base_rate == 2 / 4
    assert seen.pair_target_gone == pytest.approx(2 / 3)
    assert seen.pair_partner_kept == 1


def test_found_asks_for_all_objects_of_a_prompt_and_for_the_concept_alone_if_named():
    verdict = judged(JUDGE, show(BV, B, V, N))
    asked = prompts(BV, BV, BV, BV)
    assert found(verdict, asked).tolist() == [True, False, False, False]
    assert found(verdict, asked, "bomb").tolist() == [True, True, False, False]
    assert partner_found(verdict, asked, "bomb").tolist() == [True, False, True, False]


def test_a_share_is_a_mean_over_the_marked():
    hits, among = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, True])
    assert share(hits) == 1 / 2
    assert share(hits, among) == pytest.approx(1 / 3)
    assert math.isnan(share(hits, torch.zeros(4, dtype=torch.bool)))
    assert math.isnan(share(hits[:0]))
