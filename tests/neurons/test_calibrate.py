"""Thresholds: no other one does better."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.neurons.calibrate import MARGIN, operating_point
from tests.neurons.test_codes import PeakBytes

heights = st.lists(st.floats(-1, 8, width=16), min_size=1, max_size=12).map(torch.tensor)


def shares(target, neutral, threshold):
    return (target > threshold).double().mean().item(), (neutral > threshold).double().mean().item()


@given(heights, heights)
def test_no_threshold_tells_target_from_neutral_better(target, neutral):
    point = operating_point(target, neutral)
    recall, false_fires = shares(target, neutral, point.threshold)
    assert (point.recall, point.false_fires) == pytest.approx((recall, false_fires))
    assert point.threshold > 0
    others = [shares(target, neutral, max(0.0, v)) for v in torch.cat([target, neutral]).tolist()]
    assert all(recall - false_fires >= r - f - 1e-9 for r, f in others)


def test_between_separated_sets_the_threshold_is_nearer_to_the_neutral_one():
    point = operating_point(torch.tensor([3.0, 5.0]), torch.tensor([0.0, 1.0]))
    assert point == pytest.approx((1 + 2 * MARGIN, 1.0, 0.0))
    assert 0 < MARGIN < 0.5


def test_of_equal_gaps_the_widest_holds_the_threshold():
    # above 1 the recall is 2/4 at no false fire; so it is above 2 and 3, where a target and a neutral swap
    point = operating_point(torch.tensor([0.5, 2.0, 10.0, 11.0]), torch.tensor([1.0, 4.0, 0.5, 0.5]))
    assert point.recall - point.false_fires == pytest.approx(0.5)
    assert point.threshold == pytest.approx(4 + 6 * MARGIN)


@pytest.mark.parametrize("silent", [torch.zeros(3), torch.full((3,), -2.0)])
def test_a_neuron_that_never_fires_gets_a_threshold_that_nothing_passes(silent):
    point = operating_point(silent, silent)
    assert point.threshold > 0
    assert (point.recall, point.false_fires) == (0, 0)


def test_it_takes_memory_in_proportion_to_the_prompts():
    rng = torch.Generator().manual_seed(0)
    target, neutral = torch.randn(3000, generator=rng), torch.randn(5000, generator=rng)
    with PeakBytes() as memory:
        operating_point(target, neutral)
    assert memory.peak < 200 * (len(target) + len(neutral))  # a comparison of each with each: 3000 bytes and more
