"""What is tried of each method's knob: as many values for all, with the published one among them."""

from __future__ import annotations

import pytest

from snce.bench.lineup import METHODS, setting_of
from snce.bench.methods.neurons import SNCE
from snce.erase.build import STRENGTH

PUBLISHED = {
    "SLD medium": 1000,
    "SLD strong": 2000,
    "SLD max": 5000,
    "SAFREE": 10,
    "UCE": 1,
    "UCE (all tokens)": 1,
    "RECE": 3,
    "ESD-x": 1e-5,
    "concept ablation": 2e-6 * 2 * 4,
    "SPM": 1000,
    "Concept Steerers": -0.5,
    "ItD": -8,
    "SAeUron": -30,
    "SNCE as in the paper": 1,
}
"""The rivals' values by their papers and code; for nudity or objects, where there are several."""


class Shop:
    """A workshop that trains nothing."""

    sae = large_sae = plain_sae = unet_sae = None


@pytest.mark.parametrize("name", METHODS)
def test_the_published_value_of_a_knob_is_among_those_that_are_tried(name):
    method = METHODS[name](Shop())
    if method.knob is None:
        assert name not in PUBLISHED
        return
    grid = method.knob.grid
    assert 4 <= len(set(grid)) == len(grid) <= 6
    assert setting_of(method) in grid  # what it has where nothing is tuned
    assert name in PUBLISHED or type(method) is SNCE  # our own has no other authors
    assert pytest.approx(PUBLISHED.get(name, STRENGTH)) in grid


def test_no_method_is_left_out():
    assert PUBLISHED.keys() <= METHODS.keys()
