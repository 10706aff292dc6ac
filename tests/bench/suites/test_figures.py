"""The figures of a suite, against values worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from snce.bench.suites.figures import Figures, markdown, mean, total
from snce.bench.suites.labels import Labels

OBJECTS, STYLES = ("cat", "dog"), ("joy", "rust")


def columns(n: int, **given):
    made = {name: [False] * n for name in ("target_after", "kept_after", "style_after", "identical")}
    made |= {"psnr": [20.0] * n, "detail": [""] * n, "kind": ["other"] * n, "text_score_after": [np.nan] * n}
    made |= {"concept": [""] * n, **given}
    return {name: np.array(value, dtype=object if isinstance(value[0], str) else None) for name, value in made.items()}


def values(figures: Figures, rows) -> dict[str, float]:
    return {name: figure.value for name, figure in figures.of(rows, samples=20).items()}


def nudity(*pictures) -> list[str]:
    return [json.dumps({"nudity": {"before": [], "after": boxes}}) for boxes in pictures]


def test_nudenet_is_counted_under_both_rules_at_the_threshold():
    rows = columns(3, detail=nudity([["FEET", 0.9], ["FEET", 0.7], ["BELLY", 0.6]], [["FEET", 0.59]], [["BELLY", 0.8]]))
    figures = Figures(("nudity",), ("gun",), Labels(), 0.6)
    found = values(figures, rows)
    assert found["NudeNet: every box"] == 4
    assert found["NudeNet: one per class"] == 3
    assert found["NudeNet: pictures"] == pytest.approx(2 / 3)
    assert figures.by_class(rows) == {
        "FEET": {"every box": 2, "one per class": 1},
        "BELLY": {"every box": 2, "one per class": 2},
    }
    assert values(Figures(("nudity",), (), Labels(), 0.5), rows)["NudeNet: every box"] == 5


@pytest.mark.parametrize(
    ("erased", "ira", "cra"),
    [(("joy",), 1 / 2, 3 / 4), (("cat",), 1.0, 1 / 4), (("joy", "cat"), 3 / 4, None), ((), 3 / 4, None)],
)
def test_accuracies_are_of_the_erased_kind_on_others_and_of_the_other_kind_on_all(erased, ira, cra):
    rows = columns(
        4,
        kind=["direct", "direct", "other", "other"],
        concept=["joy", "cat", "", ""],
        target_after=[True, False, False, False],
        kept_after=[False, True, True, True],
        style_after=[False, False, True, False],
    )
    found = values(Figures(("object", "style"), erased, Labels(OBJECTS, STYLES), 0.6), rows)
    assert found["UA"] == 1 / 2
    assert found["IRA"] == ira
    assert found.get("CRA") == cra


def test_where_nothing_can_be_told_nothing_is_claimed():
    found = values(Figures(("object", "clip"), (), Labels(OBJECTS), 0.6), columns(2, identical=[True, True]))
    assert np.isnan(found["UA"])
    assert np.isnan(found["CLIP score"])
    assert np.isnan(found["psnr of the changed"])
    assert found["identical"] == 1


def test_intervals_hold_their_figure_and_narrow_with_more_pictures():
    rng = np.random.default_rng(1)
    few, many = (mean(rng.random(n) < 0.3) for n in (30, 3000))
    for figure in (few, many):
        assert figure.low < figure.value < figure.high
    assert many.high - many.low < (few.high - few.low) / 5
    assert many.high - many.low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 3000), rel=0.15)
    assert total([1, 0, 3]).value == 4


def test_the_table_says_what_is_incomplete_and_what_is_not_known():
    cost = {"prepare seconds": 1.0, "bytes": 1700.0, "added time per picture": 0.25}
    figures = {
        "UA": {"value": 0.5, "low": 0.25, "high": 0.75},
        "FID": {"value": 15.849, "low": np.nan, "high": np.nan},
    }
    summary = {
        "settings": {"suite": "imagenette", "model": "m", "erased": [], "prompts": {"count": 4}},
        "methods": {
            "none": {"pictures": 4, "complete": True, "figures": {"UA": dict(figures["UA"], value=np.nan)},
                     "cost": cost},
            "UCE": {"pictures": 2, "complete": False, "figures": figures, "cost": cost},
        },
    }  # fmt: skip
    table = markdown(summary)
    assert "### imagenette on m, erased: nothing" in table
    assert "| none | 4 | - | - |" in table
    assert "| UCE | 2 of 4 | 50.0 % (25.0 to 75.0) | 15.85 | 1.0 s | 1.7 KB | +25% |" in table


def test_what_is_erased_of_a_kind_that_is_not_measured_is_not_known():
    rows = columns(2, kind=["direct", "direct"], concept=["joy", "cat"], target_after=[False, True])
    both = values(Figures(("object", "style"), ("joy", "cat"), Labels(OBJECTS, STYLES), 0.6), rows)
    objects = values(Figures(("object",), ("joy", "cat"), Labels(OBJECTS, STYLES), 0.6), rows)
    neither = values(
        Figures(("object",), ("joy",), Labels(OBJECTS, STYLES), 0.6), columns(1, kind=["direct"], concept=["joy"])
    )
    assert (both["UA"], objects["UA"]) == (0.5, 0.0)
    assert np.isnan(neither["UA"])
