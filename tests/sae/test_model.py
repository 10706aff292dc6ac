"""The autoencoder: how latents are chosen, and that the plain kind is the TopK SAE of the literature."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.errors import SnceError
from snce.sae.config import SAEConfig
from snce.text.positions import BEGIN, END, PADDING, WORD
from tests.examples import random_embeddings, random_sae, same_bits

seeds = st.integers(0, 10_000)
supports = st.sampled_from(("prompt", "position"))
ks = st.integers(1, 12)


def plain_topk(sae, x):
    """A TopK SAE (Gao et al. 2024, arXiv 2406.04093, eq. 1-3) of single token embeddings x [n, d], in float64.

    Embeddings are centred by the decoder bias and measured in units of their scale.
    """
    w_enc, w_dec, b_enc, b_dec, scale = (t.double() for t in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec, sae.scale))
    out, codes = [], []
    for row in x.double():
        pre = w_enc @ ((row - b_dec) / scale) + b_enc
        z = torch.zeros_like(pre)
        for i in pre.argsort(descending=True)[: sae.config.k].tolist():
            z[i] = max(pre[i], 0)
        codes.append(z)
        out.append(scale * (z @ w_dec) + b_dec)
    return torch.stack(codes), torch.stack(out)


@given(seeds, ks)
def test_the_plain_kind_is_a_topk_sae_of_single_tokens(seed, k):
    sae = random_sae(seed, SAEConfig.plain(8, latents=12, k=k))
    data = random_embeddings(seed)
    code = sae.encode(data.x, data.kinds).activations
    x_hat = sae(data.x, data.kinds)
    content = data.kinds != BEGIN
    z, out = plain_topk(sae, data.x[content])
    torch.testing.assert_close(code[content].double(), z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x_hat[content].double(), out, rtol=1e-4, atol=1e-5)


@given(seeds, supports, ks)
def test_begin_of_text_has_no_code_and_no_say_in_that_of_others(seed, support, k):
    sae = random_sae(seed, SAEConfig(8, latents=12, k=k, support=support))
    data = random_embeddings(seed)
    z = sae.encode(data.x, data.kinds).activations
    assert (z[:, 0] == 0).all()
    data.x[:, 0] = 1e3
    assert same_bits(sae.encode(data.x, data.kinds).activations, z)


@given(seeds, supports, ks)
def test_a_code_holds_at_most_k_latents_and_each_has_its_activation(seed, support, k):
    sae = random_sae(seed, SAEConfig(8, latents=12, k=k, support=support))
    data = random_embeddings(seed)
    z, pre = sae.encode(data.x, data.kinds)
    active = z > 0
    assert same_bits(z[active], pre[active])
    assert (z >= 0).all()
    used = active.any(1).sum(-1) if support == "prompt" else active.sum(-1)
    assert (used <= k).all()
    enough = (pre.amax(1) > 0).sum(-1) if support == "prompt" else (pre > 0).sum(-1)
    assert torch.equal(used, enough.clamp_max(k))


@given(seeds, ks)
def test_a_prompt_code_uses_its_latents_at_every_position_where_they_are_positive(seed, k):
    sae = random_sae(seed, SAEConfig(8, latents=12, k=k))
    data = random_embeddings(seed)
    z, pre = sae.encode(data.x, data.kinds)
    chosen = (z > 0).any(1, keepdim=True)
    assert same_bits(z, torch.where(chosen, pre, torch.zeros_like(pre)))


@given(seeds, ks, st.integers(1, 30))
def test_the_choice_does_not_depend_on_how_much_padding_follows(seed, k, more):
    sae = random_sae(seed, SAEConfig(8, latents=12, k=k))
    data = random_embeddings(seed, n=3, positions=5)
    kinds = torch.tensor([[BEGIN, WORD, WORD, END, PADDING]] * 3, dtype=torch.uint8)
    longer = torch.cat([data.x, data.x[:, -1:].expand(-1, more, -1)], 1)
    kinds_longer = torch.cat([kinds, kinds[:, -1:].expand(-1, more)], 1)
    short, long = sae.encode(data.x, kinds), sae.encode(longer, kinds_longer)
    energy = sae.energy(short.pre, kinds).sort(-1, descending=True).values
    torch.testing.assert_close(sae.energy(long.pre, kinds_longer).sort(-1, descending=True).values, energy)
    if k < 12 and ((energy[..., k - 1] - energy[..., k]) < 1e-4).any():
        return  # too close to call in float32
    assert torch.equal(long.activations[:, :5] > 0, short.activations > 0)


@given(seeds, st.integers(1, 11), st.integers(1, 6))
def test_a_batch_topk_code_keeps_k_latents_per_prompt_on_average(seed, k, n):
    sae = random_sae(seed, SAEConfig(8, latents=12, k=k, activation="batchtopk")).train()
    data = random_embeddings(seed, n=n)
    pre = sae.pre(data.x, data.kinds)
    kept = sae.choose(pre, data.kinds)
    energy = sae.energy(pre, data.kinds)
    assert int(kept.sum()) == min(k * n, int((energy > 0).sum()))
    if kept.any() and not kept.all():
        assert energy[kept].min() >= energy[~kept].max()


@given(seeds)
def test_a_batch_topk_code_of_positions_keeps_k_latents_per_position_that_is_coded(seed):
    sae = random_sae(seed, SAEConfig.plain(8, latents=12, k=2, activation="batchtopk")).train()
    data = random_embeddings(seed, n=6)
    z = sae.encode(data.x, data.kinds).activations
    assert int((z > 0).sum()) == 2 * int((data.kinds != BEGIN).sum())


def test_a_batch_topk_code_looks_at_no_other_prompt_once_it_is_trained():
    sae = random_sae(1, SAEConfig(8, latents=12, k=3, activation="batchtopk"))
    data = random_embeddings(1)
    together = sae.encode(data.x, data.kinds).activations
    alone = [sae.encode(data.x[i : i + 1], data.kinds[i : i + 1]).activations for i in range(len(data))]
    torch.testing.assert_close(together, torch.cat(alone))


@given(seeds)
def test_what_a_position_activates_does_not_depend_on_its_kind(seed):
    sae = random_sae(seed, SAEConfig(8, latents=12, k=3))
    data = random_embeddings(seed, n=2)
    as_words = torch.where(data.kinds == BEGIN, BEGIN, WORD).to(torch.uint8)
    assert same_bits(sae.pre(data.x, data.kinds), sae.pre(data.x, as_words))


def test_decoding_is_affine_in_the_code():
    sae = random_sae(1, SAEConfig(8, latents=12, k=3))
    data = random_embeddings(1)
    z = sae.encode(data.x, data.kinds).activations
    nothing = sae.decode(torch.zeros_like(z))
    assert same_bits(nothing, sae.b_dec.expand_as(nothing))
    torch.testing.assert_close(sae.decode(2 * z) - nothing, 2 * (sae.decode(z) - nothing))


@given(seeds, supports, ks)
def test_training_by_the_active_latents_alone_has_the_values_and_gradients_of_the_full_code(seed, support, k):
    sae = random_sae(seed, SAEConfig(8, latents=12, k=k, support=support)).double().requires_grad_(True)
    data = random_embeddings(seed, dtype=torch.float64)
    z = sae.encode(data.x, data.kinds).activations
    with torch.no_grad():
        strength = sae.strength(sae.pre(data.x, data.kinds), data.kinds)
    code = sae.encode_sparse(data.x, data.kinds, strength, k)
    rows = z if support == "prompt" else z.flatten(0, 1)[:, None]
    places = code.latents[:, None].expand_as(code.activations)
    torch.testing.assert_close(torch.zeros_like(rows).scatter(-1, places, code.activations), rows)
    full, few = sae.decode(z), sae.decode_sparse(code, data.x.shape) + sae.b_dec
    torch.testing.assert_close(few, full)
    gradients = [torch.autograd.grad((x_hat - data.x).square().sum(), list(sae.parameters())) for x_hat in (full, few)]
    for one, two in zip(*gradients, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(two, one)


def test_normalised_rows_have_unit_norm_and_a_projected_gradient_keeps_it():
    sae = random_sae(1, SAEConfig(8, latents=12, k=3)).requires_grad_(True)
    sae.W_dec.data *= 7
    sae.normalise_decoder()
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(12))
    data = random_embeddings(1)
    (sae(data.x, data.kinds) - data.x).square().sum().backward()
    assert (sae.W_dec.grad * sae.W_dec).sum(-1).abs().max() > 1e-2
    sae.project_gradient()
    torch.testing.assert_close((sae.W_dec.grad * sae.W_dec).sum(-1), torch.zeros(12), rtol=0, atol=1e-4)


@pytest.mark.parametrize("fields", [{"k": 0}, {"k": 13}, {"width": 0}])
def test_impossible_shapes_are_refused(fields):
    with pytest.raises(SnceError, match="must"):
        SAEConfig(**{"width": 8, "latents": 12, "k": 3} | fields)
