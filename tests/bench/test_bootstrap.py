"""Intervals of the benchmark's figures, and of differences between methods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from snce.bench import measures
from snce.bench.bootstrap import Interval, bootstrap, difference
from tests.bench.columns import columns

if TYPE_CHECKING:
    from snce.bench.measures import Columns


def hits(*sets: tuple[int, int]) -> Columns:
    """Retained pictures: for each erased concept (identical ones, others)."""
    same = [np.arange(a + b) < a for a, b in sets]
    names = [np.full(len(s), f"concept {i}", dtype=object) for i, s in enumerate(same)]
    n = sum(map(len, same))
    return {"identical": np.concatenate(same), "erased": np.concatenate(names), "kind": np.full(n, "other")}


def interval(found: Columns, samples: int = 3000) -> Interval:
    return bootstrap(found, {"identical": measures.identical}, samples)["identical"]


def test_an_interval_covers_another_choice_of_pictures():
    half = 1.96 * math.sqrt(0.25 / 400)  # of a share of 400
    found = interval(hits((200, 200)))
    assert found == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=0.004)


def test_an_interval_covers_another_choice_of_concepts():
    """Of two concepts one is drawn twice in every second sample, whatever the number of its pictures."""
    assert interval(hits((500, 0), (0, 500)), 200) == (0.5, 0.0, 1.0)


def test_an_interval_holds_the_figure_and_narrows_with_more_pictures():
    def width(n):
        found = bootstrap(columns(n), {"identical": measures.identical}, samples=200)["identical"]
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert width(4000) < width(100) / 2


def test_every_measure_has_an_interval_that_holds_it():
    intervals = bootstrap(columns(300), measures.MEASURES, samples=100)
    assert intervals.keys() == measures.MEASURES.keys()
    for found in intervals.values():
        assert found.low <= found.value <= found.high


def test_an_interval_does_not_depend_on_what_else_is_measured():
    rows = columns(120)
    alone = bootstrap(rows, {"kept": measures.style_kept}, samples=50)
    assert bootstrap(rows, measures.MEASURES, samples=50)["kept: styles"] == alone["kept"]


def test_the_interval_of_a_small_frechet_distance_holds_it_although_every_resample_is_larger():
    rows = columns(200)
    rng = np.random.default_rng(1)
    rows["features_before"] = rng.normal(size=(200, 32))
    rows["features_after"] = rows["features_before"] + 0.3 * rng.normal(size=(200, 32))
    found = bootstrap(rows, {"distance": measures.frechet}, samples=500)["distance"]
    assert 0 < found.low <= found.value <= found.high


@pytest.mark.filterwarnings("error")
def test_samples_without_a_picture_of_the_kind_do_not_count_in_an_interval():
    rows = columns(40) | {"kind": np.array(["other"] * 40), "identical": np.arange(40) > 0}
    found = bootstrap(rows, {"psnr": measures.psnr}, samples=50)["psnr"]  # a third of them lack the picture
    assert found == (rows["psnr"][0],) * 3
    unchanged = bootstrap(rows | {"identical": np.ones(40, bool)}, {"psnr": measures.psnr}, samples=5)["psnr"]
    assert np.isinf(unchanged.value)
    assert np.isnan([unchanged.low, unchanged.high]).all()


def paired(seed: int = 0, n: int = 400) -> tuple[Columns, Columns]:
    """Two methods on the same prompts, of which some are hard for both; the second fails in one of twenty more."""
    rng = np.random.default_rng(seed)
    rows = columns(n, kind=["other"] * n, prompt=np.arange(n), kept_before=np.ones(n, bool))
    rows["kept_after"] = rng.random(n) < 0.6
    return rows, rows | {"kept_after": rows["kept_after"] & (rng.random(n) >= 0.05)}


def retained(rows: Columns) -> float:
    return measures.kept(rows, "other")


def test_a_difference_is_surer_than_the_intervals_of_the_two():
    better, worse = paired()
    found = difference(better, worse, retained, 300)
    a, b = (bootstrap(rows, {"kept": retained}, 300)["kept"] for rows in (better, worse))
    assert found.value == pytest.approx(a.value - b.value)
    assert 0 < found.low <= found.value <= found.high
    assert a.low < b.high


def test_a_difference_has_another_sign_the_other_way_round_and_is_none_to_itself():
    better, worse = paired()
    there, back = (difference(a, b, retained, 100) for a, b in ((better, worse), (worse, better)))
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert difference(better, better, retained, 100) == (0, 0, 0)


def test_methods_on_other_prompts_have_no_difference():
    better, worse = paired()
    for name in ("prompt", "kind", "erased"):
        with pytest.raises(ValueError, match="other prompts"):
            difference(better, worse | {name: np.full(len(worse[name]), "another")}, retained, 10)
