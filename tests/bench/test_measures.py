"""The figures of the benchmark, against values worked out by hand or by another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.bench import measures
from tests.bench.columns import columns


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


def test_pictures_drawn_anew_as_well_as_before_lose_nothing():
    """With errors of their own: no picture that was right has to be right again."""
    n, rng = 20_000, np.random.default_rng(0)
    rows = columns(n, kind=["other"] * n, style_named=np.ones(n, bool))
    for name in ("kept", "style"):
        for when in ("before", "after"):
            rows[f"{name}_{when}"] = rng.random(n) < 0.9
    assert measures.kept(rows, "other") == pytest.approx(1, abs=0.02)
    assert measures.style_kept(rows) == pytest.approx(1, abs=0.02)
    assert np.isnan(measures.kept(rows, "neighbour"))


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
