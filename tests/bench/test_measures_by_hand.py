"""Every figure of a dozen pictures, worked out by hand, and intervals that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snce.bench import measures

TABLE = """
kind       target  kept  style  named  same  psnr
direct      1 0    1 1    1 1    1      1     5
direct      1 1    1 1    1 1    1      0     6
direct      0 0    1 0    0 0    0      1     7
synonym     1 0    1 1    1 1    0      0     8
sentence    0 0    1 1    1 1    1      0     9
pair        1 0    1 1    1 0    1      1    10
pair        1 0    1 0    0 0    0      0    11
pair        0 0    1 1    1 1    1      0    12
pair        1 1    0 0    1 0    1      0    13
other       0 0    1 1    1 0    1      1    60
other       0 0    1 0    1 1    0      0    20
other       0 0    0 0    0 1    1      0    30
neighbour   1 0    1 0    1 1    1      0    40
neighbour   0 1    0 1    1 1    0      1    50
"""
"""Before and after; the style is named or not; not one byte differs."""


def rows() -> measures.Columns:
    words = [line.split() for line in TABLE.strip().splitlines()[1:]]
    names = ("target_before", "target_after", "kept_before", "kept_after", "style_before", "style_after",
             "style_named", "identical")  # fmt: skip
    flags = {name: np.array([w[i + 1] == "1" for w in words]) for i, name in enumerate(names)}
    features = np.array([[float(i), 0.0] for i in range(len(words))])
    retained = np.array([w[0] in ("other", "neighbour") for w in words])
    return flags | {
        "kind": np.array([w[0] for w in words], dtype=object),
        "erased": np.array(["bomb"] * len(words), dtype=object),
        "psnr": np.array([float(w[-1]) for w in words]),
        "features_before": features,
        "features_after": features + np.where(retained[:, None], [0.0, 3.0], [0.0, 30.0]),
    }


ERASURE = (1 / 2 + 1) / 2  # no sentence showed it
RETENTION = (1 / 2 + 1 + 1) / 3  # what is found for the first time counts, too
PAIRS = 1 / 2


def test_every_figure_is_that_of_its_definition():
    found = {name: measure(rows()) for name, measure in measures.MEASURES.items()}
    distances = [1 - i / math.hypot(i, 3) for i in (10, 11, 12)]  # the features of the changed: (i, 0) and (i, 3)
    expected = {
        "harmonic mean": 3 / (1 / ERASURE + 1 / RETENTION + 1 / PAIRS),
        "erasure": ERASURE,
        "retention": RETENTION,
        "erased: direct": 1 / 2,
        "erased: synonym": 1.0,
        "erased: sentence": math.nan,
        "kept: others": 1 / 2,
        "kept: neighbours": 1 / 1,
        "kept: styles": 3 / 3,
        "pair precision": PAIRS,
        "identical": 2 / 5,
        "psnr of the changed": 30.0,
        "perceptual distance of the changed": sum(distances) / 3,
        "fréchet distance": 9.0,
    }
    assert found == pytest.approx(expected, nan_ok=True)


def test_there_is_no_harmonic_mean_of_a_part_that_no_picture_tells():
    for kinds in (["pair"], ["direct", "synonym", "sentence"], ["other", "neighbour"]):
        others = ~np.isin(rows()["kind"], kinds)
        assert np.isnan(measures.harmonic_mean({name: column[others] for name, column in rows().items()}))
