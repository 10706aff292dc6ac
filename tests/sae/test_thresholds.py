"""Thresholds in place of the choice of the top k: no other ones agree better with it."""

import pytest
import torch

from snce.neurons.codes import code_prompts
from snce.sae.config import SAEConfig
from snce.sae.thresholds import calibrate_thresholds
from snce.text.harvest import Embeddings
from tests.examples import random_embeddings, random_sae


def f1(says: torch.Tensor, truth: torch.Tensor) -> float:
    return 2 * (says & truth).sum().item() / max(1, (says.sum() + truth.sum()).item())


def with_common_beginnings(data: Embeddings) -> Embeddings:
    """And as many that differ at the last position only: many share the highest activation, but not what fires."""
    other = data.x.clone()
    other[:, -1] = data.x[:, -1].roll(1, 0)
    return Embeddings(torch.cat([data.x, other]), torch.cat([data.kinds, data.kinds]))


@pytest.mark.parametrize("support", ["prompt", "position"])
@pytest.mark.parametrize("k", [1, 4, 12, 24])
@pytest.mark.parametrize("n", [1, 2, 60])
def test_no_threshold_agrees_better_with_the_choice_of_the_top_k(support, k, n):
    sae = random_sae(k, SAEConfig(8, latents=24, k=k, support=support))
    data = with_common_beginnings(random_embeddings(k, n=n))
    agreement = calibrate_thresholds(sae, data)
    heights = sae.pre(data.x, data.kinds).amax(1)
    truth = code_prompts(sae, data).dense() > 0
    assert agreement.f1 == pytest.approx(f1(heights > sae.threshold, truth))
    for i in range(24):
        mine = f1(heights[:, i] > sae.threshold[i], truth[:, i])
        bars = [0.0, *heights[:, i].tolist()]
        assert mine >= max(f1(heights[:, i] > bar, truth[:, i]) for bar in bars) - 1e-9
        if not truth[:, i].any():
            assert not (heights[:, i] > sae.threshold[i]).any()


def test_thresholds_reproduce_the_choice_exactly_where_nothing_competes():
    sae = random_sae(1, SAEConfig(8, latents=24, k=24))
    assert calibrate_thresholds(sae, random_embeddings(1, n=50)).f1 == 1
