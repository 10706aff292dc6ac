"""The edit, against its theorems and against a naive implementation."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from snce.erase.build import neurons_of
from snce.erase.edit import Neurons, edit, prompt_activation
from snce.sae.config import SAEConfig
from tests.examples import random_embeddings, random_neurons, random_sae, same_bits, touched

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
seeds = st.integers(0, 10_000)
dtypes = st.sampled_from(DTYPES)


def cast(neurons: Neurons, dtype: torch.dtype) -> Neurons:
    return Neurons(*(t.to(dtype) if t.is_floating_point() else t for t in neurons))


def naive(x: torch.Tensor, neurons: Neurons, begin: int = 1):
    """The definition with loops, in float64: (edited, where it fires, distance of the nearest activation to a gate)."""
    x = x.double()
    out, mask, margin = x.clone(), torch.zeros(x.shape[:2], dtype=torch.bool), float("inf")
    for i in range(len(neurons.encoder)):
        w, b, theta, d, s, whole_prompt, level = (t[i].double() for t in neurons)
        theta = max(theta, 0)
        for p in range(len(x)):
            u = {t: float(w @ x[p, t] + b) for t in range(begin, x.shape[1])}
            margin = min(margin, *(min(abs(v - theta), abs(v)) for v in u.values()))
            loud = any(v > theta for v in u.values())
            factor = max(1, level / max(u.values())) if loud else 1.0
            for t, v in u.items():
                if (loud and v > 0) if whole_prompt else v > theta:
                    out[p, t] -= s * factor * v * d
                    mask[p, t] |= bool(s != 0)
    return out, mask, margin


@given(seeds, dtypes, st.integers(1, 4), st.sampled_from((0, 1)), st.sampled_from((0.0, 1.0)))
def test_edit_is_what_the_definition_says(seed, dtype, n, begin, lowered):
    x = random_embeddings(seed, dtype=dtype).x
    neurons = random_neurons(seed, n)
    neurons = neurons._replace(threshold=neurons.threshold - lowered)  # some below zero
    expected, mask, margin = naive(x, neurons, begin)
    assume(margin > 1e-4)
    edited = edit(x, neurons, begin)
    assert edited.dtype == dtype
    assert torch.equal(touched(x, edited), mask)
    eps = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    torch.testing.assert_close(edited.double(), expected, rtol=8 * eps, atol=16 * eps)


@given(seeds, dtypes, st.booleans())
def test_a_silent_neuron_leaves_every_bit(seed, dtype, whole_prompt):
    x = random_embeddings(seed, dtype=dtype).x
    tiny = torch.finfo(dtype).smallest_normal
    odd = torch.tensor([0.0, -0.0, tiny / 2, -tiny / 4, tiny], dtype=dtype)
    assert (odd[2:] != 0).all()  # subnormals are there
    spots = torch.randint(8, x.shape, generator=torch.Generator().manual_seed(seed))
    x = torch.where(spots < 5, odd[spots.clamp_max(4)], x)
    neurons = random_neurons(seed, n=3, whole_prompt=whole_prompt)
    silent = neurons._replace(threshold=prompt_activation(x, neurons).amax(0).clamp_min(0))
    assert same_bits(edit(x, silent), x)


@given(seeds, dtypes, st.integers(1, 4), st.floats(-1, 3))
def test_the_short_way_for_silent_prompts_gives_the_bits_of_the_long_one(seed, dtype, n, raised):
    x = random_embeddings(seed, dtype=dtype).x
    neurons = random_neurons(seed, n)
    neurons = neurons._replace(threshold=neurons.threshold + raised)
    short = edit(x, neurons)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snce.erase.edit._may_look", lambda _: False)
        assert same_bits(short, edit(x, neurons))
    assert short.untyped_storage()._cdata != x.untyped_storage()._cdata  # whoever writes to it leaves x alone


@given(seeds, dtypes)
def test_strength_zero_is_the_identity(seed, dtype):
    x = random_embeddings(seed, dtype=dtype).x
    x[:, :, :3] = torch.tensor([-0.0, 0.0, -torch.finfo(dtype).smallest_normal / 2], dtype=dtype)
    neurons = random_neurons(seed)._replace(strength=torch.zeros(2), threshold=torch.zeros(2))
    assert same_bits(edit(x, neurons), x)


def test_a_neuron_of_strength_zero_beside_a_firing_one_adds_no_position():
    x = random_embeddings(3, n=16).x
    neurons = random_neurons(3, n=2, whole_prompt=False)._replace(threshold=torch.tensor([0.0, 0.5]))
    only_second = Neurons(*(t[1:] for t in neurons))
    muted = neurons._replace(strength=torch.tensor([0.0, 1.0]))
    expected = edit(x, only_second._replace(strength=torch.ones(1)))
    assert touched(x, expected).any()
    assert torch.equal(touched(x, edit(x, muted)), touched(x, expected))
    torch.testing.assert_close(edit(x, muted), expected)


@given(seeds, st.sampled_from((None, True, False)))
def test_an_edit_looks_at_no_other_prompt_of_the_batch(seed, whole_prompt):
    data = random_embeddings(seed, n=5)
    neurons = random_neurons(seed, n=2, whole_prompt=whole_prompt)
    assume(naive(data.x, neurons)[2] > 1e-4)
    together = edit(data.x, neurons)
    alone = torch.cat([edit(prompt[None], neurons) for prompt in data.x])
    assert torch.equal(touched(data.x, together), touched(data.x, alone))
    torch.testing.assert_close(together, alone)


def test_a_position_gate_fires_at_its_position_and_a_prompt_gate_in_the_whole_prompt():
    d = 4
    x = torch.zeros(2, 5, d)
    x[0, :, 0] = torch.tensor([9.0, 0.5, 2.0, -3.0, 0.5])  # the 9 stands at begin-of-text
    x[1, :, 0] = torch.tensor([9.0, 0.5, 0.9, -3.0, 0.5])
    row = torch.eye(d)[:1]
    one = torch.ones(1)
    neuron = Neurons(row, torch.zeros(1), one, row, one, torch.tensor([False]), torch.zeros(1))
    at_position = touched(x, edit(x, neuron))
    assert at_position.tolist() == [[False, False, True, False, False], [False] * 5]
    in_prompt = touched(x, edit(x, neuron._replace(whole_prompt=torch.tensor([True]))))
    assert in_prompt.tolist() == [[False, True, True, False, True], [False] * 5]
    torch.testing.assert_close(edit(x, neuron)[0, 2, 0], torch.tensor(0.0))
    torch.testing.assert_close(edit(x, neuron._replace(strength=torch.tensor([2.0])))[0, 2, 0], torch.tensor(-2.0))


def at_their_level(seed, factor=1.0):
    """A levelled neuron without a bias, and prompts whose highest activation is its level; all fire, and would if they
    were `factor` times as loud."""
    neurons = random_neurons(seed, n=1, whole_prompt=True)._replace(bias=torch.zeros(1))
    x = random_embeddings(seed, n=8, dtype=torch.float64).x
    peak = prompt_activation(x, neurons)
    x = x[peak[:, 0] > 0] * (neurons.level / peak[peak[:, 0] > 0])[..., None]
    assume(len(x))
    return neurons._replace(threshold=0.9 * factor * neurons.level), x


@given(seeds, st.floats(0.01, 1))
def test_a_levelled_neuron_is_taken_out_alike_however_weakly_a_prompt_activates_it(seed, factor):
    neurons, x = at_their_level(seed, factor)
    assert touched(x, edit(x, neurons)).any(1).all()
    torch.testing.assert_close(edit(x * factor, neurons) - x * factor, edit(x, neurons) - x)
    torch.testing.assert_close(edit(x, neurons), edit(x, neurons._replace(level=torch.zeros(1))))


@given(seeds, st.floats(1, 20))
def test_no_weight_on_a_prompt_hides_it_from_a_levelled_neuron(seed, factor):
    """ "(word:1.6)" scales embeddings: of 1.6 times as much, 1.6 times as much is taken out."""
    neurons, x = at_their_level(seed)
    torch.testing.assert_close(edit(x * factor, neurons), factor * edit(x, neurons))


@given(seeds, dtypes, st.sampled_from((True, False)), st.floats(-2, 1))
def test_begin_of_text_is_never_edited(seed, dtype, whole_prompt, threshold):
    x = random_embeddings(seed, dtype=dtype).x
    x[:, 0, :2] = -0.0
    neurons = random_neurons(seed, whole_prompt=whole_prompt)._replace(threshold=torch.full((2,), threshold))
    assert same_bits(edit(x, neurons)[:, 0], x[:, 0])


@given(seeds, dtypes, st.sampled_from((True, False)), st.floats(-2, 0, exclude_max=True), st.sampled_from((0, 1)))
def test_a_threshold_below_zero_acts_as_zero(seed, dtype, whole_prompt, threshold, begin):
    x = random_embeddings(seed, dtype=dtype).x
    neurons = random_neurons(seed, whole_prompt=whole_prompt)
    below, zero = (neurons._replace(threshold=torch.full((2,), t)) for t in (threshold, 0.0))
    assert same_bits(edit(x, below, begin), edit(x, zero, begin))


def test_without_begin_of_text_the_first_position_is_edited_as_any_other():
    x = random_embeddings(4, n=16).x
    for whole_prompt in (True, False):
        neurons = random_neurons(4, whole_prompt=whole_prompt)
        edited = edit(x, neurons, begin=0)
        assert touched(x, edited)[:, 0].any()
        behind = torch.cat([torch.full_like(x[:, :1], 1e3), x], dim=1)
        assert same_bits(edit(behind, neurons)[:, 1:], edited)


@pytest.mark.parametrize("narrow", [torch.float32, torch.float16])
def test_an_edit_is_computed_in_the_wider_dtype_of_embeddings_and_neurons(narrow):
    x = random_embeddings(5, n=16, dtype=torch.float64).x
    neurons = random_neurons(5)
    expected, mask, margin = naive(x, neurons)
    assert margin > 1e-6
    assert mask.any()
    torch.testing.assert_close(edit(x, neurons), expected, rtol=1e-14, atol=1e-14)
    wide = edit(x.to(narrow), cast(neurons, torch.float64))
    torch.testing.assert_close(wide, naive(x.to(narrow), neurons)[0].to(narrow), rtol=0, atol=0)


@given(seeds, dtypes)
def test_an_edit_inside_autocast_has_the_bits_of_one_outside(seed, dtype):
    x, neurons = random_embeddings(seed, dtype=dtype).x, random_neurons(seed)
    outside = edit(x, neurons), prompt_activation(x, neurons)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x.float() @ neurons.encoder.T).dtype is torch.bfloat16  # so it would be without care
        inside = edit(x, neurons), prompt_activation(x, neurons)
    assert all(same_bits(a, b) for a, b in zip(inside, outside, strict=True))


@given(seeds, st.integers(1, 4))
def test_prompt_activation_passes_the_threshold_exactly_where_the_prompt_is_edited(seed, n):
    data = random_embeddings(seed, n=8)
    neurons = random_neurons(seed, n)
    fires = (prompt_activation(data.x, neurons) > neurons.threshold).any(1)
    assert torch.equal(touched(data.x, edit(data.x, neurons)).any(1), fires)


@pytest.mark.parametrize("support", ["position", "prompt"])
@pytest.mark.parametrize("k", [4, 40])
@pytest.mark.parametrize("latent", [0, 7, 39])
def test_the_rank_one_edit_is_the_difference_of_two_decoded_codes(support, k, latent):
    sae = random_sae(latent, SAEConfig(16, latents=40, k=k, support=support))
    data = random_embeddings(latent, n=200, positions=6, d=16)
    z = sae.encode(data.x, data.kinds).activations
    without = z.clone()
    without[..., latent] = 0
    difference = sae.decode(without) - sae.decode(z)
    change = edit(data.x, neurons_of(sae, [latent], 1.0)) - data.x
    active = z[..., latent] > 0
    where = active.any(1, keepdim=True).expand_as(active) if support == "prompt" else active
    assert where.any()
    torch.testing.assert_close(change[where], difference[where], rtol=1e-5, atol=1e-5)
    if k == 40:  # nothing competes, so the latent is in the code wherever it fires
        torch.testing.assert_close(change, difference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("whole_prompt", [True, False])
def test_gradients_flow_through_the_edit(whole_prompt):
    data = random_embeddings(11, n=2, positions=5, d=6, dtype=torch.float64)
    neurons = cast(random_neurons(11, n=2, d=6, whole_prompt=whole_prompt), torch.float64)._replace(
        threshold=torch.full((2,), 0.05, dtype=torch.float64)
    )
    assert naive(data.x, neurons)[2] > 1e-4  # no gate within reach of the finite differences
    x = data.x.clone().requires_grad_(True)
    fired = touched(data.x, edit(data.x, neurons))
    assert fired.any()
    assert not fired.all()
    assert torch.autograd.gradcheck(lambda v: edit(v, neurons), (x,), eps=1e-7, atol=1e-6)
    # below its level a neuron is taken out alike however weak it is: only amounts as they are must show everywhere
    edit(x, neurons._replace(level=torch.zeros_like(neurons.level))).sum().backward()
    assert x.grad is not None
    changed = (x.grad != 1).any(-1)
    assert torch.equal(changed, fired)
