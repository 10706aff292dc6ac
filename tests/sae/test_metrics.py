"""What training reads and what its figures count, against loops over prompts and positions."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.checkpoint import generator
from snce.sae import batches, metrics
from snce.sae.batches import digest, draw_positions, with_content
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.metrics import measure
from snce.sae.train import _rate, split, train_sae
from snce.text.harvest import Embeddings
from snce.text.positions import BEGIN, KINDS, PADDING
from tests.examples import random_embeddings, random_sae, same_bits
from tests.neurons.test_codes import PeakBytes


@pytest.mark.parametrize("support", ["prompt", "position"])
def test_the_figures_are_what_a_loop_says(support):
    sae = random_sae(1, SAEConfig(8, latents=200, k=3, support=support))
    data = random_embeddings(1, n=18)
    test, fit = torch.arange(9), torch.arange(9, 18)  # a batch each
    found = measure(sae, data, test, fit, batch=9)
    z = sae.encode(data.x, data.kinds).activations
    squared = (data.x - sae.decode(z)).square().sum(-1) / sae.scale**2
    means = [squared[:9][data.kinds[:9] == kind].mean().item() for kind in KINDS]
    assert found.fvu == pytest.approx(sum(means) / len(means), rel=1e-4)
    active = [[z[i, p] > 0 for p in range(data.x.shape[1]) if data.kinds[i, p] != BEGIN] for i in test]
    if support == "prompt":
        counts = [int(torch.stack(prompt).any(0).sum()) for prompt in active]
    else:
        counts = [sum(int(position.sum()) for position in prompt) / len(prompt) for prompt in active]
    assert found.l0 == pytest.approx(sum(counts) / 9, rel=1e-5)
    x, kinds = draw_positions(data, fit, 1, generator(0, 0))
    silent = (sae.encode(x, kinds).activations == 0).flatten(0, 1).all(0)
    assert found.dead == pytest.approx(silent.float().mean().item())
    assert 0 < found.dead < 1


@pytest.mark.parametrize("support", ["prompt", "position"])
def test_of_many_prompts_a_sample_is_measured_the_same_each_time(support, monkeypatch):
    sae = random_sae(1, SAEConfig(8, latents=200, k=3, support=support))
    data = random_embeddings(1, n=180)
    test, fit = torch.arange(60), torch.arange(60, 180)
    assert metrics.MOST > 30_000 + 5_000  # no training of this repository has more: recipes/sd14 has most
    whole = measure(sae, data, test, fit)
    monkeypatch.setattr(metrics, "MOST", len(fit))
    assert measure(sae, data, test, fit) == whole
    read: list[int] = []

    def watch(data, rows, *rest):
        read.extend(rows.tolist())
        return draw_positions(data, rows, *rest)

    monkeypatch.setattr(metrics, "draw_positions", watch)
    monkeypatch.setattr(metrics, "MOST", 40)
    sample = measure(sae, data, test, fit)
    assert len(read) == len(set(read)) == 40
    assert set(read) < set(fit.tolist())
    assert sample.dead > whole.dead  # 40 prompts do not show all the latents that 120 do
    assert sample.fvu == pytest.approx(whole.fvu, rel=0.2)
    assert sample.fvu != whole.fvu
    assert sample.l0 == pytest.approx(whole.l0, rel=0.2)
    assert measure(sae, data, test, fit) == sample
    assert read[40:] == read[:40]


@given(st.integers(0, 1000), st.integers(1, 50), st.integers(1, 60))
def test_a_digest_does_not_depend_on_how_many_prompts_are_read_at_once(seed, n, at_once):
    """Checkpoints hold it: it must be what it always was."""
    data = random_embeddings(seed, n=n, dtype=torch.float16)
    every_other = Embeddings(data.x[::2], data.kinds[::2])
    for some in (data, every_other):
        rows = torch.linspace(0, len(some) - 1, min(64, len(some))).long()
        told = some.x[rows].float().numpy().tobytes() + some.kinds.numpy().tobytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "AT_ONCE", at_once)
            assert digest(some) == hashlib.sha256(told).hexdigest()[:16]


@given(st.integers(0, 1000), st.integers(0, 50), st.integers(1, 60))
def test_prompts_with_content_are_found_a_few_at_a_time(seed, n, at_once):
    data = random_embeddings(seed, n=50)
    rng = torch.Generator().manual_seed(seed)
    data.kinds[torch.rand(50, generator=rng) < 0.3] = BEGIN
    rows = torch.randperm(50, generator=rng)[:n]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "AT_ONCE", at_once)
        assert with_content(data, rows).tolist() == [row for row in rows.tolist() if (data.kinds[row] != BEGIN).any()]


def test_the_kinds_of_many_prompts_are_not_copied(monkeypatch):
    monkeypatch.setattr(batches, "AT_ONCE", 100)
    data = random_embeddings(0, n=5000, positions=77, d=1)
    rows = torch.arange(len(data))
    with PeakBytes() as memory:
        with_content(data, rows)
    assert memory.peak < 20 * len(data)  # the rows themselves have 8 bytes each, kinds 77


@given(st.integers(0, 1000), st.integers(0, 5))
def test_a_batch_holds_all_but_begin_of_text_and_so_many_padding_positions(seed, padding):
    data = random_embeddings(seed, n=12)
    rows = torch.tensor([3, 3, 11, 0])
    x, kinds = draw_positions(data, rows, padding, generator(seed, 0))
    for i, row in enumerate(rows.tolist()):
        used = x[i][kinds[i] != BEGIN]
        words = (data.kinds[row] != BEGIN) & (data.kinds[row] != PADDING)
        assert same_bits(used[kinds[i][kinds[i] != BEGIN] != PADDING], data.x[row][words].float())
        drawn, there = used[kinds[i][kinds[i] != BEGIN] == PADDING], data.x[row][data.kinds[row] == PADDING].float()
        assert len(drawn) == min(padding, len(there))
        places = [int((there == vector).all(-1).nonzero()[0, 0]) for vector in drawn]
        assert len(set(places)) == len(places)


def test_held_out_prompts_are_not_trained_on():
    data = random_embeddings(0, n=60)
    config, train = SAEConfig(8, latents=16, k=3), TrainConfig(steps=30, batch=16, held_out=0.2)
    fit, test = split(data, train)
    assert sorted([*fit.tolist(), *test.tolist()]) == list(range(60))
    assert len(test) == 12
    other = Embeddings(data.x.clone(), data.kinds)
    other.x[test] *= -3
    one, two = train_sae(data, config, train), train_sae(other, config, train)
    assert same_bits(one.sae.W_enc, two.sae.W_enc)
    assert one.metrics.fvu != two.metrics.fvu
    assert not same_bits(one.sae.W_enc, train_sae(other, config, replace(train, held_out=0.0)).sae.W_enc)


def test_the_learning_rate_rises_over_a_twentieth_and_falls_over_the_last_three_tenths():
    rates = [_rate(step, 100) for step in range(100)]
    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates[70:] == pytest.approx([(100 - step) / 30 for step in range(70, 100)])
    assert set(rates[5:70]) == {1.0}
