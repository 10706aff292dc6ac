"""Scores, against their formulas written out prompt by prompt."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.neurons.scores import RULES, auroc, modulated_frequency
from snce.neurons.stats import BINS, TOP
from tests.neurons.test_stats import activations, stats_of

seeds = st.integers(0, 10_000)


def pairs(seed: int):
    """Activations on target and neutral prompts; the first neurons prefer the target."""
    t, n = activations(seed, 15, 25), activations(seed + 1, 20, 25)
    t[:, :5] += torch.rand(15, 5, generator=torch.Generator().manual_seed(seed))
    return t, n


def exact_auroc(t: list[float], n: list[float]) -> float:
    return sum((a > b) + 0.5 * (a == b) for a in t for b in n) / (len(t) * len(n))


def naive(rule: str, t: torch.Tensor, n: torch.Tensor) -> list[float]:
    t, n = t.double(), n.double()
    total_t, total_n = (a.mean(0).sum().item() for a in (t, n))
    top_t, top_n = ((a >= a.topk(TOP, 1).values[:, -1:]) & (a > 0) for a in (t, n))
    scores = []
    for i in range(t.shape[1]):
        f_t, f_n = ((a[:, i] > 0).double().mean().item() for a in (t, n))
        a_t, a_n = (a[:, i][a[:, i] > 0].mean().item() if (a[:, i] > 0).any() else 0.0 for a in (t, n))
        mu_t, mu_n = t[:, i].mean().item(), n[:, i].mean().item()
        scores.append(
            {
                "modulated": f_t * (1 - f_n) * (a_t / (a_t + a_n) if a_t else 0.0),
                "frequency": f_t,
                "difference": mu_t - mu_n,
                "saeuron": mu_t / total_t - mu_n / total_n,
                "itd": -top_n[:, i].double().mean().item() if top_n[:, i].any() else top_t[:, i].double().mean().item(),
            }[rule]
        )
    return scores


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "auroc"])
@given(seed=seeds)
def test_a_rule_is_its_formula(rule, seed):
    t, n = pairs(seed)
    assert RULES[rule](stats_of(t), stats_of(n)).tolist() == pytest.approx(naive(rule, t, n), abs=1e-6)


@given(seeds, st.floats(0, 3), st.floats(0, 3))
def test_the_modulated_frequency_lies_below_the_raw_one_and_equals_it_unmodulated(seed, alpha, beta):
    t, n = (stats_of(a) for a in pairs(seed))
    score = modulated_frequency(t, n, alpha, beta)
    assert ((score >= 0) & (score <= t.frequency + 1e-12)).all()
    fires = t.fired > 0
    torch.testing.assert_close(modulated_frequency(t, n, 0, 0)[fires], t.frequency[fires])


@given(seeds)
def test_auroc_is_exact_for_activations_that_share_no_bin(seed):
    rng = torch.Generator().manual_seed(seed)
    places = (torch.rand(25, BINS - 2, generator=rng).argsort(1)[:, :30] + 0.5) / (BINS - 2) * 4
    values = places.T * (torch.rand(30, 25, generator=rng) > 0.3)  # silence is shared
    t, n = values[:12], values[12:]
    area = auroc(stats_of(t), stats_of(n)).tolist()
    assert area == pytest.approx([exact_auroc(t[:, i].tolist(), n[:, i].tolist()) for i in range(25)])


@given(seeds)
def test_auroc_is_off_by_half_of_the_pairs_that_share_a_bin_at_most(seed):
    t, n = pairs(seed)
    area = auroc(stats_of(t), stats_of(n))
    width = 4 / (BINS - 2)
    for i in range(t.shape[1]):
        a, b = t[:, i][:, None].double(), n[:, i][None].double()
        near = ((a > 0) & (b > 0) & (((a - b).abs() <= width) | ((a >= 4 - width) & (b >= 4 - width)))).double().mean()
        assert abs(area[i].item() - exact_auroc(t[:, i].tolist(), n[:, i].tolist())) <= 0.5 * near.item() + 1e-9


@given(seeds)
def test_auroc_of_the_exchanged_sets_is_its_complement(seed):
    t, n = (stats_of(a) for a in pairs(seed))
    torch.testing.assert_close(auroc(t, n) + auroc(n, t), torch.ones(25, dtype=torch.float64))


@pytest.mark.parametrize("rule", list(RULES))
def test_a_neuron_of_the_concept_alone_beats_one_that_fires_on_everything_and_one_that_never_fires(rule):
    t, n = torch.zeros(10, 40), torch.zeros(10, 40)
    t[:, 0] = 2.0  # the concept
    t[:, 1] = n[:, 1] = 2.0  # everything
    n[:, 2] = 2.0  # everything else
    scores = RULES[rule](stats_of(t), stats_of(n))
    assert scores[0] == scores.max()
    assert scores[0] > scores[3]
    if rule != "frequency":  # the reason for modulating it
        assert scores[0] > scores[1]
    assert scores[2] <= scores[3]
