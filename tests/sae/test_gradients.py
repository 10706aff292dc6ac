"""The fast path of position codes: its search, its sparse products, and its gradients are those of the dense way."""

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.emblem.corpus import captions_for_training
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.gradients import AUX_ROWS, backward, row_weights
from snce.sae.loss import reconstruction_loss
from snce.sae.metrics import kind_mean
from snce.sae.pairs import Pairs
from snce.sae.select import fastest_precision, largest, strongest
from snce.sae.train import train_sae
from snce.text.harvest import harvest
from snce.text.positions import BEGIN, WORD
from snce.text.towers import TextTower
from tests.examples import random_embeddings, random_kinds, random_sae, same_bits

seeds = st.integers(0, 10_000)


@given(seeds, st.integers(1, 5), st.integers(1, 2000), st.integers(1, 40), st.sampled_from(["float", "ties", "equal"]))
def test_the_search_finds_the_values_of_topk_and_a_rough_one_those_but_for_their_last_bits(seed, rows, m, k, what):
    rng = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, m, generator=rng)
    values = {"float": values, "ties": values.round(), "equal": torch.ones_like(values)}[what]
    k = min(k, m)
    for rough in (False, True):
        found = largest(values, k, rough)
        assert all(len(set(row)) == k for row in found.tolist())
        in_order = values.gather(1, found).sort(descending=True).values
        torch.testing.assert_close(in_order, values.topk(k).values, rtol=2**-12 if rough else 0, atol=0)


@pytest.mark.parametrize("precision", ["int8", "bfloat16", "float32"])
@given(seeds, st.integers(1, 700), st.sampled_from([1.0, 30.0, 1e4]))
def test_low_precision_confuses_only_latents_that_are_close(precision, seed, n, loud):
    """None of those left out activates more than one of those taken, but for a small share of |x| |w|, however loud
    other rows are."""
    rng = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(n, 24, generator=rng), torch.randn(200, 24, generator=rng)
    x[::5] *= loud
    bias = torch.randn(200, generator=rng)
    exact = x @ weight.T + bias
    taken = torch.zeros_like(exact, dtype=torch.bool).scatter_(1, strongest(x, weight, bias, 9, precision), True)
    assert (taken.sum(1) == 9).all()
    too_low = exact.masked_fill(taken, -torch.inf).amax(1) - exact.masked_fill(~taken, torch.inf).amin(1)
    size = {"int8": 0.1, "bfloat16": 0.02, "float32": 1e-5}[precision]
    assert (too_low <= size * x.norm(dim=1) * weight.norm(dim=1).max()).all()


def test_a_row_of_zeros_takes_the_latents_of_the_largest_biases():
    rng = torch.Generator().manual_seed(0)
    x, weight = torch.randn(9, 24, generator=rng), torch.randn(200, 24, generator=rng)
    bias = torch.randn(200, generator=rng)
    x[4] = 0
    for precision in ("int8", "float32"):
        found = strongest(x, weight, bias, 9, precision)[4]
        assert set(found.tolist()) == set(bias.topk(9).indices.tolist())


@given(seeds, st.integers(1, 9), st.integers(1, 7))
def test_the_sparse_products_are_those_of_the_full_matrix(seed, n, k):
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.rand(n, 30, generator=rng).topk(k).indices
    rows, latents = torch.randn(n, 5, generator=rng), torch.randn(30, 5, generator=rng)
    pairs = Pairs.of(chosen, 30)
    values = pairs.dots(latents, rows)
    full = torch.zeros(n, 30).index_put((pairs.row, pairs.latent), values)
    mask = torch.zeros(n, 30).scatter(1, chosen, 1.0)
    torch.testing.assert_close(full, rows @ latents.T * mask)
    torch.testing.assert_close(pairs.to_rows(values, latents), full @ latents)
    out = torch.full((30, 5), torch.nan)
    pairs.to_latents(values, rows, out)
    torch.testing.assert_close(out, full.T @ rows)
    torch.testing.assert_close(pairs.sums(values), full.sum(0))
    few, best = pairs.strongest(values, 1 + k // 2)
    again = torch.zeros(n, 30).index_put((few.row, few.latent), best)
    kept = full.masked_fill(mask == 0, -torch.inf).topk(1 + k // 2).indices
    assert torch.equal(again, torch.zeros(n, 30).scatter(1, kept, full.gather(1, kept)))


def test_the_products_of_other_devices_are_those_of_the_cpu():
    """The way without a kernel for compressed rows, taken by tensors of the CPU that claim to be elsewhere."""

    class Elsewhere(torch.Tensor):
        device = torch.device("cuda")

    rng = torch.Generator().manual_seed(0)
    pairs = Pairs.of(torch.rand(6000, 30, generator=rng).topk(4).indices, 30)  # more pairs than are gathered at once
    rows, latents = torch.randn(6000, 5, generator=rng), torch.randn(30, 5, generator=rng)
    torch.testing.assert_close(
        torch.Tensor(pairs.dots(latents, rows.as_subclass(Elsewhere))), pairs.dots(latents, rows)
    )


def gradients(sae):
    return {name: p.grad.clone() for name, p in sae.named_parameters()}


def both_ways(seed, support, positions):
    """(loss, gradients, silence) by automatic differentiation of the full code and in closed form, in float32."""
    sae = random_sae(seed, SAEConfig(8, latents=40, k=3, support=support)).requires_grad_(True)
    sae.normalise_decoder()
    data = random_embeddings(seed, n=24, positions=7)
    x, kinds = data.x, data.kinds
    if positions == 1:
        x, kinds = x[:, 1:2], kinds[:, 1:2]
    train = TrainConfig(aux_k=0)
    silence = torch.arange(40)
    results = []
    for closed in (False, True):
        steps = silence.clone()
        sae.zero_grad()
        if closed:
            loss = backward(sae, x, kinds, steps, train.aux_k, train.aux_weight, train.dead_after)
        else:
            loss = reconstruction_loss(sae, x, kinds, steps, train)
            loss.backward()
            sae.project_gradient()
        results.append((loss.detach(), gradients(sae), steps))
    return results


@given(seeds, st.sampled_from([("position", 7), ("prompt", 1)]))
def test_gradients_in_closed_form_are_those_of_automatic_differentiation(seed, code):
    (dense_loss, dense, dense_silence), (loss, closed, silence) = both_ways(seed, *code)
    torch.testing.assert_close(loss, dense_loss)
    assert torch.equal(silence, dense_silence)
    for name, grad in dense.items():
        torch.testing.assert_close(closed[name], grad, rtol=1e-3, atol=1e-5, msg=name)


@given(seeds)
def test_dead_latents_have_the_gradients_of_auxk_on_every_fourth_row(seed):
    """And no other latent has any of it."""
    sae = random_sae(seed, SAEConfig.plain(8, latents=40, k=3)).requires_grad_(True)
    sae.normalise_decoder()
    x = torch.randn(8 * AUX_ROWS, 1, 8, generator=torch.Generator().manual_seed(seed + 1))
    kinds, silence = torch.full(x.shape[:2], WORD), torch.full((40,), 100)
    backward(sae, x, kinds, silence.clone(), 0, 0.5, 5)
    without = gradients(sae)
    steps = silence.clone()
    backward(sae, x, kinds, steps, 2, 0.5, 5)
    more = {name: grad - without[name] for name, grad in gradients(sae).items()}
    dead = (steps > 5).nonzero()[:, 0]
    few = x[::AUX_ROWS, 0]
    with torch.no_grad():
        code = sae.encode(few[:, None], kinds[::AUX_ROWS]).activations
        residual = few - sae.decode(code)[:, 0]
    parts = [p.detach()[dead].requires_grad_(True) for p in (sae.W_enc, sae.b_enc, sae.W_dec)]
    pre = torch.relu((few - sae.b_dec.detach()) / sae.scale @ parts[0].T + parts[1])
    z = pre * torch.zeros_like(pre).scatter(1, pre.topk(min(2, len(dead))).indices, 1.0)
    loss = 0.5 * (residual - sae.scale * z @ parts[2]).square().sum(1).mean() / sae.scale**2
    expected = torch.autograd.grad(loss, parts)
    along = (expected[2] * parts[2]).sum(1, keepdim=True) * parts[2]
    torch.testing.assert_close(more["W_enc"][dead], expected[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(more["b_enc"][dead], expected[1], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(more["W_dec"][dead], expected[2] - along, rtol=1e-3, atol=1e-5)
    alive = torch.ones(40, dtype=torch.bool).index_fill(0, dead, False)
    assert all((more[name][alive] == 0).all() for name in ("W_enc", "b_enc", "W_dec"))


@given(seeds, st.integers(1, 6))
def test_row_weights_make_the_mean_over_kinds(seed, n):
    kinds = random_kinds(seed, n, 7)
    values = torch.rand(kinds.shape, generator=torch.Generator().manual_seed(seed))
    used = kinds != BEGIN
    torch.testing.assert_close((values[used] * row_weights(kinds[used])).sum(), kind_mean(values, kinds))


def test_the_fast_path_describes_emblems_embeddings_as_well_as_the_dense_one(emblem):
    """The same batches and steps, the dense loss in place of the closed form."""
    from snce.sae import train as module

    data = harvest(TextTower.from_pipeline(emblem), captions_for_training(300))
    config = SAEConfig.plain(data.x.shape[-1], latents=512, k=16)
    training = TrainConfig(steps=60, batch=32, dead_after=20)

    def dense(sae, x, kinds, silence, *_):
        sae.zero_grad()
        loss = reconstruction_loss(sae, x, kinds, silence, training)
        loss.backward()
        sae.project_gradient()
        return loss.detach()

    fast = train_sae(data, config, training).metrics
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "backward", dense)
        slow = train_sae(data, config, training).metrics
    assert fast.fvu < 0.5
    assert fast.fvu < 1.03 * slow.fvu


def test_a_position_code_resumes_to_the_same_bits(tmp_path):
    data = random_embeddings(0, n=60)
    config = SAEConfig.plain(8, latents=96, k=2)
    training = TrainConfig(steps=210, batch=16, dead_after=10, aux_k=8)
    path = tmp_path / "sae.safetensors"
    whole = train_sae(data, config, training)

    seen = []

    def stop(*args):
        if len(seen) == 205:
            raise KeyboardInterrupt
        seen.append(0)
        return backward(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snce.sae.train.backward", stop)
        with pytest.raises(KeyboardInterrupt):
            train_sae(data, config, training, path)
    resumed = train_sae(data, config, training, path)
    one, two = resumed.sae.state_dict(), whole.sae.state_dict()
    assert all(same_bits(one[name], two[name]) for name in two)
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize(
    ("instructions", "precision"),
    [({"vnni", "amx_tile"}, "int8"), ({"amx_tile"}, "bfloat16"), ({"avx512_bf16"}, "bfloat16"), (set(), "float32")],
)
def test_the_precision_is_one_that_the_processor_has_instructions_for(instructions, precision, monkeypatch):
    for name in ("vnni", "amx_tile", "avx512_bf16"):
        # raises where PyTorch asks under another name than ours
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in instructions)
    assert fastest_precision(torch.device("cpu")) == precision
    assert fastest_precision(torch.device("meta")) == "float32"


def test_training_shows_no_warning_of_pytorchs_layouts_and_leaves_the_filters_alone():
    """In a process of its own: PyTorch warns once."""
    code = """
import warnings, torch
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.train import train_sae
from tests.examples import random_embeddings
warnings.simplefilter("error", UserWarning)
before = list(warnings.filters)
train_sae(random_embeddings(0, n=20), SAEConfig.plain(8, latents=32, k=2), TrainConfig(steps=2, batch=4))
assert warnings.filters == before, warnings.filters
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_two_trainings_in_two_threads_leave_the_filters_of_warnings_alone(monkeypatch):
    """The second begins a product while the first is in one, and ends after it."""
    pairs = Pairs.of(torch.tensor([[0, 1], [1, 2]]), 3)
    rows, latents = torch.randn(2, 5), torch.randn(3, 5)
    expected = pairs.dots(latents, rows)  # not the first use in this process
    before = list(warnings.filters)
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
    make = torch.sparse_csr_tensor

    def in_turns(*args, **options):
        if threading.current_thread() is threads[0]:
            first_is_in.set()
            assert second_is_in.wait(60)
        else:
            second_is_in.set()
            assert first_is_out.wait(60)
        return make(*args, **options)

    def first():
        found.append(pairs.dots(latents, rows))
        first_is_out.set()

    def second():
        assert first_is_in.wait(60)
        found.append(pairs.dots(latents, rows))

    found: list[torch.Tensor] = []
    threads = [threading.Thread(target=work) for work in (first, second)]
    monkeypatch.setattr(torch, "sparse_csr_tensor", in_turns)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [same_bits(values, expected) for values in found] == [True, True]
    assert warnings.filters == before
