"""Streaming statistics: what they say is what a look at all prompts at once says, in any split."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.neurons.codes import code_prompts
from snce.neurons.stats import TOP, ActivationStats, collect
from snce.sae.config import SAEConfig
from snce.text.harvest import Embeddings
from tests.examples import random_embeddings, random_sae

seeds = st.integers(0, 10_000)


def activations(seed: int, prompts: int = 40, neurons: int = 30) -> torch.Tensor:
    """Sparse, of very different sizes, no two alike."""
    rng = torch.Generator().manual_seed(seed)
    a = torch.randn(prompts, neurons, generator=rng).relu() * torch.rand(neurons, generator=rng) * 4
    return a * (torch.rand(neurons, generator=rng) > 0.2)


def stats_of(*batches: torch.Tensor) -> ActivationStats:
    stats = ActivationStats(batches[0].shape[1])
    for batch in batches:
        stats.update(batch)
    return stats


@given(seeds, st.lists(st.integers(1, 39), max_size=5, unique=True))
def test_any_split_into_batches_gives_the_same_statistics(seed, cuts):
    a = activations(seed)
    one, many = stats_of(a), stats_of(*a.tensor_split(sorted(cuts)))
    assert one.prompts == many.prompts
    for name in ("fired", "among_top", "histogram"):
        assert torch.equal(getattr(one, name), getattr(many, name))
    torch.testing.assert_close(one.total, many.total, rtol=1e-12, atol=0)


@given(seeds, st.sampled_from((torch.float32, torch.bfloat16, torch.float16, torch.float64)))
def test_statistics_are_what_a_loop_over_prompts_says(seed, dtype):
    a = activations(seed, prompts=12, neurons=20).to(dtype)
    stats = stats_of(a[:5], a[5:])
    for i in range(20):
        column = a[:, i].double().tolist()
        fired = [v for v in column if v > 0]
        assert stats.frequency[i].item() == pytest.approx(len(fired) / 12)
        assert stats.activation[i].item() == pytest.approx(sum(fired) / len(fired) if fired else 0)
        assert stats.mean[i].item() == pytest.approx(sum(column) / 12)
        # ties at the last place may go either way
        rows = list(zip(column, a.double().tolist(), strict=True))
        sure = sum(v > 0 and sum(w >= v for w in row) <= TOP for v, row in rows)
        possible = sum(v > 0 and sum(w > v for w in row) < TOP for v, row in rows)
        assert sure <= round(stats.top_share[i].item() * 12) <= possible


@given(seeds)
def test_the_histogram_counts_every_prompt_once_and_silence_apart(seed):
    a = activations(seed) * 3  # some pass the last bin
    a[0, 0], a[1, 0], a[2, 0] = 1e-9, 4.0, 1e9
    stats = stats_of(a)
    assert (stats.histogram.sum(1) == len(a)).all()
    assert torch.equal(stats.histogram[:, 0], (a == 0).sum(0))
    assert torch.equal(len(a) - stats.histogram[:, 0], stats.fired)


def test_before_the_first_prompt_everything_is_zero():
    stats = ActivationStats(3)
    for value in (stats.frequency, stats.activation, stats.mean, stats.top_share):
        assert value.tolist() == [0, 0, 0]


@pytest.mark.parametrize("support", ["prompt", "position"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_neurons_activation_in_a_prompt_is_its_highest_at_any_position(support, dtype):
    sae = random_sae(1, SAEConfig(8, latents=24, k=4, support=support))
    data = random_embeddings(1, n=23, dtype=dtype)
    expected = sae.encode(data.x.float(), data.kinds).activations.max(1).values
    torch.testing.assert_close(code_prompts(sae, data).dense(), expected)
    stats = collect(sae, data)
    assert torch.equal(stats.fired, (expected > 0).sum(0))
    torch.testing.assert_close(stats.total, expected.double().sum(0), rtol=1e-5, atol=1e-6)


@given(seeds, st.sampled_from(["prompt", "position"]), st.lists(st.integers(0, 59), max_size=70))
def test_codes_give_the_statistics_that_their_activations_written_out_give(seed, support, chosen):
    sae = random_sae(seed, SAEConfig(8, latents=40, k=20, support=support))  # more than TOP are active
    codes = code_prompts(sae, random_embeddings(seed, n=60))
    rows = torch.tensor(chosen, dtype=torch.int64)
    stats, expected = ActivationStats(40).add(codes, rows), stats_of(codes.dense()[rows])
    assert stats.prompts == expected.prompts == len(chosen)
    for name in ("fired", "among_top", "histogram"):
        assert torch.equal(getattr(stats, name), getattr(expected, name))
    torch.testing.assert_close(stats.total, expected.total, rtol=1e-12, atol=0)


@given(seeds, st.integers(0, 30))
def test_codes_that_are_counted_in_parts_give_the_same_bits(seed, cut):
    codes = code_prompts(random_sae(seed, SAEConfig(8, latents=24, k=4)), random_embeddings(seed, n=30))
    rows = torch.arange(30)
    whole, parts = ActivationStats(24).add(codes), ActivationStats(24).add(codes, rows[:cut]).add(codes, rows[cut:])
    for name in ("fired", "among_top", "histogram", "total"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_begin_of_text_activates_nothing():
    sae = random_sae(1, SAEConfig(8, latents=24, k=4))
    data = random_embeddings(1, n=9)
    loud = Embeddings(data.x.clone(), data.kinds)
    loud.x[:, 0] = 1e3
    assert torch.equal(code_prompts(sae, loud).dense(), code_prompts(sae, data).dense())
