"""The figures of the benchmark, against values worked out by hand or by another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.bench import measures
from snce.bench.prompts import KINDS


def columns(n: int, seed: int = 0, **fixed) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    flags = ("target_before", "target_after", "kept_before", "kept_after", "style_before", "style_after",
             "style_named", "identical")  # fmt: skip
    rows = {name: rng.random(n) < 0.5 for name in flags}
    rows["kind"] = rng.choice(np.array(KINDS, dtype=object), n)
    rows["erased"] = rng.choice(np.array(["cigarette", "bomb", "axe"], dtype=object), n)
    rows["psnr"] = rng.uniform(5, 40, n)
    rows["features_before"] = rng.normal(size=(n, 4))
    rows["features_after"] = rng.normal(size=(n, 4))
    return rows | {name: np.array(value) for name, value in fixed.items()}


def test_the_perceptual_distance_is_of_changed_retained_pictures_alone():
    rows = columns(
        4,
        kind=["other", "neighbour", "direct", "other"],
        identical=[False, False, False, True],
        features_before=[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]],
        features_after=[[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [-1.0, 0.0]],
    )
    assert measures.perceptual_distance(rows) == pytest.approx((0 + 1) / 2)
    assert measures.perceptual_distance(rows | {"identical": np.ones(4, bool)}) == 0


def test_shares_count_only_what_could_change():
    rows = columns(
        6,
        kind=["direct"] * 3 + ["pair"] * 3,
        target_before=[True, True, False, True, True, True],
        target_after=[False, True, False, False, False, True],
        kept_before=[True, True, True, True, False, True],
        kept_after=[True, True, True, True, False, True],
    )
    assert measures.basis(rows) == {"direct": 2, "pair": 2}
    assert measures.erasure(rows, "direct") == 0.5
    assert np.isnan(measures.erasure(rows, "synonym"))
    assert measures.pair_precision(rows) == 0.5


def test_an_erasure_that_does_nothing_keeps_everything_and_erases_nothing():
    rows = columns(400)
    for after in ("target", "kept", "style", "features"):
        rows[f"{after}_after"] = rows[f"{after}_before"]
    rows["identical"] = np.ones(400, dtype=bool)
    assert measures.overall_erasure(rows) == 0
    assert measures.overall_retention(rows) == 1
    assert measures.identical(rows) == 1
    assert measures.harmonic_mean(rows) == 0
    assert measures.frechet(rows) == pytest.approx(0, abs=1e-9)


@given(st.integers(0, 1000))
def test_the_harmonic_mean_lies_between_the_worst_part_and_their_mean(seed):
    rows = columns(300, seed)
    parts = [measures.overall_erasure(rows), measures.overall_retention(rows), measures.pair_precision(rows)]
    assert min(parts) - 1e-12 <= measures.harmonic_mean(rows) <= np.mean(parts) + 1e-12


def test_the_frechet_distance_of_shifted_and_scaled_gaussians():
    rng = np.random.default_rng(0)
    before = rng.normal(size=(200, 3))
    after = 2 * before + np.array([3, 0, 0])
    rows = columns(200, kind=["other"] * 200, features_before=before, features_after=after)
    # C_after = 4 C_before, so the trace term is tr(C + 4C - 2 * 2C) = tr C
    difference = after.mean(0) - before.mean(0)
    expected = difference @ difference + np.trace(np.cov(before, rowvar=False))
    assert measures.frechet(rows) == pytest.approx(expected)


@given(st.integers(0, 1000))
def test_the_frechet_distance_is_symmetric_and_not_negative(seed):
    rows = columns(60, seed, kind=["other"] * 60)
    swapped = rows | {"features_before": rows["features_after"], "features_after": rows["features_before"]}
    assert measures.frechet(rows) >= -1e-9
    assert measures.frechet(rows) == pytest.approx(measures.frechet(swapped), abs=1e-8)


def test_the_square_root_squares_to_the_matrix():
    a = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).numpy()
    covariance = np.cov(a)
    root = measures._root(covariance)
    assert np.allclose(root @ root, covariance)


def test_an_interval_holds_the_figure_and_narrows_with_more_pictures():
    def width(n):
        found = measures.bootstrap(columns(n), {"identical": measures.identical}, samples=200)["identical"]
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert width(4000) < width(100) / 2


def test_every_measure_has_an_interval_that_holds_it():
    intervals = measures.bootstrap(columns(300), measures.MEASURES, samples=100)
    assert intervals.keys() == measures.MEASURES.keys()
    for found in intervals.values():
        assert found.low <= found.value <= found.high


def test_an_interval_does_not_depend_on_what_else_is_measured():
    rows = columns(120)
    alone = measures.bootstrap(rows, {"kept": measures.style_kept}, samples=50)
    assert measures.bootstrap(rows, measures.MEASURES, samples=50)["kept: styles"] == alone["kept"]


def test_the_interval_of_a_small_frechet_distance_holds_it_although_every_resample_is_larger():
    rows = columns(200)
    rng = np.random.default_rng(1)
    rows["features_before"] = rng.normal(size=(200, 32))
    rows["features_after"] = rows["features_before"] + 0.3 * rng.normal(size=(200, 32))
    found = measures.bootstrap(rows, {"distance": measures.frechet}, samples=500)["distance"]
    assert 0 < found.low <= found.value <= found.high


@pytest.mark.filterwarnings("error")
def test_samples_without_a_picture_of_the_kind_do_not_count_in_an_interval():
    rows = columns(40) | {"kind": np.array(["other"] * 40), "identical": np.arange(40) > 0}
    found = measures.bootstrap(rows, {"psnr": measures.psnr}, samples=50)["psnr"]  # a third of them lack the picture
    assert found == (rows["psnr"][0],) * 3
    unchanged = measures.bootstrap(rows | {"identical": np.ones(40, bool)}, {"psnr": measures.psnr}, samples=5)["psnr"]
    assert np.isinf(unchanged.value)
    assert np.isnan([unchanged.low, unchanged.high]).all()
