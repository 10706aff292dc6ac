"""Methods that train: ESD, concept ablation, SPM, SAeUron."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from snce.bench.methods.ablation import ConceptAblation
from snce.bench.methods.adapters import Adapter, adapted
from snce.bench.methods.denoise import encode, tokenize
from snce.bench.methods.esd import ESD
from snce.bench.methods.hooks import PromptTokens, recorded_prompts
from snce.bench.methods.saeuron import SAeUron, SAeUronErasure, scores
from snce.bench.methods.saeuron_sae import Sampling, UNetSAE, last_cross_attention, train_unet_sae
from snce.bench.methods.sampling import Sampler
from snce.bench.methods.spm import SPM, SPMErasure, Transport
from snce.errors import SnceError
from snce.sae.model import SAEConfig
from snce.sae.train import TrainConfig
from snce.text.prompts import Concept
from tests.examples import picture, random_sae, same_bits, state, tiny_pipeline

CAT = Concept("cat", ("a red cat", "cats"), ("two dogs", "green tea", "a hat", "blue sky"))
DOG = Concept("dog", ("two dogs", "a dog"), ("a red cat", "green tea", "a hat"))
PROMPTS = ["a red cat", "green tea"]

ESD_ = ESD(steps=3, lr=1e-2, sampling_steps=2, batch=2)
CA = ConceptAblation(steps=3, lr=1e-2, batch=2, images=4, sampling_steps=2)
SPM_ = SPM(steps=3, lr=1e-1, anchoring=1.0, anchors=2, sampling_steps=2)
SAEURON = SAeUron(gamma=-30.0, prompts=2, latents=32, k=4, sampling=Sampling(2, 3.0, 2), training=TrainConfig(steps=5))
METHODS = [ESD_, CA, SPM_, SAEURON]
ids = [m.name for m in METHODS]
WITH_LOSS = METHODS[:3]


def weights(pipe):
    return {f"{part}.{k}": v.clone() for part in ("unet", "text_encoder", "vae")
            for k, v in getattr(pipe, part).state_dict().items()}  # fmt: skip


def tensors(erasure):
    """All numbers of an erasure."""
    if isinstance(erasure, SPMErasure):
        return [t for a in erasure.layers.values() for t in (a.down, a.up)]
    if isinstance(erasure, SAeUronErasure):
        return [*erasure.sae.sae.state_dict().values(), erasure.latents, erasure.factor, erasure.bar]
    return list(erasure.weights.values())


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_the_given_pipeline_keeps_every_bit(pipe, method):
    base = picture(pipe, PROMPTS)
    before, bits = state(pipe), weights(pipe)
    erasure = method.prepare(pipe, [CAT])
    assert state(pipe) == before

    def fail():
        with erasure.attached(pipe):
            assert picture(pipe, PROMPTS) != base
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state(pipe) == before
    assert all(same_bits(v, bits[k]) for k, v in weights(pipe).items())
    assert picture(pipe, PROMPTS) == base


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_a_seed_decides_everything(pipe, method):
    one, same, other = (tensors(method.prepare(pipe, [CAT], seed)) for seed in (7, 7, 8))
    assert all(same_bits(a, b) for a, b in zip(one, same, strict=True))
    assert not all(same_bits(a, b) for a, b in zip(one, other, strict=False))


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_encoding_prompts_first_gives_the_same_pictures(pipe, method):
    with method.prepare(pipe, [CAT, DOG]).attached(pipe), torch.no_grad():
        prompt, negative = pipe.encode_prompt(PROMPTS, "cpu", 1, True)
        encoded = picture(pipe, None, prompt_embeds=prompt, negative_prompt_embeds=negative)
        assert encoded == picture(pipe, PROMPTS)


@pytest.mark.parametrize("method", WITH_LOSS, ids=ids[:3])
def test_no_steps_change_nothing(pipe, method):
    base = picture(pipe, PROMPTS)
    with replace(method, steps=0).prepare(pipe, [CAT]).attached(pipe):
        assert picture(pipe, PROMPTS) == base


@pytest.mark.parametrize(("method", "lr"), [(ESD_, 1e-2), (CA, 2e-3), (SPM_, 1e-2)], ids=ids[:3])
def test_the_loss_falls(method, lr):
    pipe = tiny_pipeline(0)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type="v_prediction")
    # one step of sampling, one prompt of each kind: little but the weights differs from step to step
    concept = Concept("cat", ("a red cat",), ("green tea",))
    fields = {"steps": 16, "lr": lr, "sampling_steps": 1, "batch": 8} | ({"anchoring": 0.0} if method is SPM_ else {})
    losses = replace(method, **fields).prepare(pipe, [concept]).losses
    assert len(losses) == 16
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.parametrize("eta", [1.0, 2.5])
def test_a_target_whose_weights_add_up_to_one_is_the_same_in_v_and_in_epsilon(eta):
    rng = torch.Generator().manual_seed(0)
    x, v_null, v_concept = torch.randn(3, 4, generator=rng)
    alpha, sigma = 0.6, 0.8

    def epsilon(v):
        return alpha * v + sigma * x

    in_epsilon = epsilon(v_null) - eta * (epsilon(v_concept) - epsilon(v_null))
    assert torch.allclose(epsilon(v_null - eta * (v_concept - v_null)), in_epsilon, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_pipelines_of_another_kind_are_refused(pipe, method):
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type="sample")
    with pytest.raises(SnceError, match="prediction type 'sample'"):
        method.prepare(pipe, [CAT])


def test_nbytes_counts_the_trained_weights(pipe):
    parameters = dict(pipe.unet.named_parameters())
    cross = {n: p.numel() * 4 for n, p in parameters.items() if ".attn2." in n}
    assert replace(ESD_, steps=0).prepare(pipe, [CAT]).nbytes == sum(cross.values())
    keys_and_values = sum(v for n, v in cross.items() if ".to_k." in n or ".to_v." in n)
    assert replace(CA, steps=0).prepare(pipe, [CAT]).nbytes == keys_and_values > 0


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_sampler_draws_what_the_pipeline_draws(pipe, kind):
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=kind)
    sampler = Sampler(pipe, 4, 3.0)
    own = sampler.to_the_end(pipe.unet, encode(pipe, PROMPTS), torch.Generator().manual_seed(0))
    noise = sampler.start(pipe.unet, 2, torch.Generator().manual_seed(0))
    drawn = pipe(PROMPTS, num_inference_steps=4, guidance_scale=3.0, latents=noise, output_type="latent").images
    assert torch.allclose(own, drawn, atol=1e-5)


def test_an_anchor_may_be_the_empty_prompt(pipe):
    with replace(CA, anchor="empty").prepare(pipe, [CAT, DOG]).attached(pipe):
        edited = picture(pipe, PROMPTS)
    assert edited != picture(pipe, PROMPTS)


@pytest.mark.parametrize(
    "method",
    [
        ESD(steps=2, lr=1e-3, sampling_steps=2),
        ConceptAblation(steps=2, lr=1e-3, batch=2, images=2, sampling_steps=2),
        SPM(steps=2, lr=1e-1, sampling_steps=2, anchors=1),
        SAeUron(gamma=-30.0, prompts=2, latents=64, k=8, sampling=Sampling(2, 3.0, 4), training=TrainConfig(steps=3)),
    ],
    ids=ids,
)
def test_emblem_draws_something_else(emblem, method):
    from snce.emblem.concepts import load_concept

    bits = {k: v.clone() for k, v in emblem.unet.state_dict().items()}

    @torch.no_grad()
    def draw():
        with torch.autocast("cpu", torch.bfloat16):
            prompt, negative = emblem.encode_prompt(["a cigarette", "a cigarette"], "cpu", 1, True)
            rng = [torch.Generator().manual_seed(i) for i in range(2)]
            return emblem(prompt_embeds=prompt, negative_prompt_embeds=negative, guidance_scale=3.0,
                          num_inference_steps=2, generator=rng, output_type="latent").images  # fmt: skip

    base = draw()
    with method.prepare(emblem, [load_concept("cigarette")]).attached(emblem):
        edited = draw()
    assert torch.isfinite(edited).all()
    assert not same_bits(edited, base)
    assert same_bits(draw(), base)
    assert all(same_bits(v, bits[k]) for k, v in emblem.unet.state_dict().items())


# -- SPM ---------------------------------------------------------------------------------------------------------------


def random_spm(pipe, names=("cat",), seed=0):
    """Adapters away from the identity."""
    rng = torch.Generator().manual_seed(seed)

    def noisy(layer):
        fresh = Adapter.stacked([Adapter.fresh(layer, rng) for _ in names])
        return Adapter(fresh.down, 0.1 * torch.randn(fresh.up.shape, generator=rng))

    return SPMErasure(tuple(names), {name: noisy(layer) for name, layer in adapted(pipe.unet)})


def test_adapters_are_on_every_linear_layer_and_convolution_of_the_blocks(pipe):
    names = {name for name, _ in adapted(pipe.unet)}
    for name, module in pipe.unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            outside = name.startswith(("conv_in", "conv_out", "time_embedding"))
            assert (name in names) != outside


@torch.no_grad()
def test_spm_of_similarity_zero_is_the_identity(pipe):
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(2, 16, 32)  # no token, and at a right angle to everything
    base = pipe.unet(x, 500, nothing).sample
    with random_spm(pipe).attached(pipe):
        assert same_bits(pipe.unet(x, 500, nothing).sample, base)


@torch.no_grad()
def test_spm_of_similarity_one_is_the_merged_model(pipe):
    erasure = random_spm(pipe)
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    cat = encode(pipe, ["cat"]).expand(2, -1, -1)
    merged = copy.deepcopy(pipe.unet)
    for name, adapter in erasure.layers.items():
        weight = merged.get_submodule(name).weight
        weight += (adapter.up @ adapter.down.flatten(1)).reshape(weight.shape)
    with erasure.attached(pipe):
        got = pipe.unet(x, 500, cat).sample
    assert torch.allclose(got, merged(x, 500, cat).sample, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_adapters_of_several_concepts_add_up_by_their_own_scale():
    rng = torch.Generator().manual_seed(0)
    scale = torch.tensor([[0.5, 2.0], [0.0, 1.0]])
    for layer, x in (
        (nn.Linear(6, 5), torch.randn(2, 7, 6, generator=rng)),
        (nn.Linear(6, 5), torch.randn(2, 6, generator=rng)),
        (nn.Conv2d(6, 5, 3, stride=2, padding=1), torch.randn(2, 6, 8, 8, generator=rng)),
    ):
        both = [Adapter.fresh(layer, rng), Adapter.fresh(layer, rng)]
        both = [Adapter(a.down, torch.randn(a.up.shape, generator=rng)) for a in both]
        expected = sum(a(layer, x, scale[:, i : i + 1]) for i, a in enumerate(both))
        got = Adapter.stacked(both)(layer, x, scale)
        assert got.shape == layer(x).shape
        assert torch.allclose(got, expected, atol=1e-5)


def test_similarity_is_the_larger_of_cosine_and_shared_tokens(pipe):
    prompts, names = ["cat", "a red cat", "rain"], ["cat", "dog"]
    with recorded_prompts(pipe) as known:
        embeddings = encode(pipe, prompts)
    concepts, tokens = encode(pipe, names), tokenize(pipe, names)
    cosine = torch.cosine_similarity(embeddings.flatten(1)[:, None], concepts.flatten(1)[None], dim=-1)
    m = Transport(pipe, known, concepts, tokens).similarity(embeddings)
    ids = [set(t) - set(pipe.tokenizer.all_special_ids) for t in tokenize(pipe, prompts + names).tolist()]
    shared = torch.tensor([[len(p & n) / len(n) for n in ids[3:]] for p in ids[:3]])
    assert torch.allclose(m, torch.maximum(cosine, shared))
    assert torch.allclose(m[:2, 0], torch.ones(2))
    unknown = Transport(pipe, PromptTokens(), concepts, tokens).similarity(embeddings)
    assert torch.allclose(unknown, cosine.clamp_min(0))


@torch.no_grad()
def test_each_prompt_of_a_batch_is_scaled_by_itself(pipe):
    with random_spm(pipe).attached(pipe):
        embeddings = encode(pipe, PROMPTS)
        x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
        x[1] += 1  # two different pictures, not a guided call
        together = pipe.unet(x, 500, embeddings).sample
        alone = torch.cat([pipe.unet(x[i : i + 1], 500, embeddings[i : i + 1]).sample for i in range(2)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_spm_ships_adapters_and_names(pipe):
    erasure = replace(SPM_, steps=0).prepare(pipe, [CAT, DOG])
    sizes = [layer.weight[0].numel() + len(layer.weight) for _, layer in adapted(pipe.unet)]
    assert erasure.nbytes == 2 * 4 * sum(sizes) + len("catdog")


# -- SAeUron -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def unet_sae(pipe):
    block = last_cross_attention(pipe.unet)
    return UNetSAE(random_sae(0, SAEConfig(16, 24, 6, "position", "batchtopk")), block, Sampling(3, 3.0, 2))


def test_the_default_block_is_the_last_with_cross_attention_on_the_way_up(pipe, emblem):
    assert last_cross_attention(pipe.unet) == "up_blocks.0.attentions.1"
    assert last_cross_attention(emblem.unet) == "up_blocks.0.attentions.1"


def test_the_score_compares_shares_of_the_whole_activation():
    with_it, without = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[2.0, 2.0, 4.0]])
    assert torch.allclose(scores(with_it, without), torch.tensor([[0.75 - 0.25, 0.25 - 0.25, 0 - 0.5]]))
    assert torch.equal(scores(torch.zeros(1, 3), torch.zeros(1, 3)), torch.zeros(1, 3))


def test_the_edit_is_the_change_of_the_decoded_code(unet_sae):
    maps = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    z = unet_sae.code(maps)
    busiest = z.mean((0, 1)).topk(2).indices
    factor, bar = torch.tensor([[1.0, 1.0], [-3.0, -0.5]]), torch.tensor([[torch.inf] * 2, [0.0, 0.1]])
    erasure = SAeUronErasure(unet_sae, torch.tensor([800, 200]), busiest, factor, bar)
    edited_code = z.clone()
    for j, i in enumerate(busiest.tolist()):
        edited_code[..., i] = torch.where(z[..., i] > bar[1, j], factor[1, j] * z[..., i], z[..., i])
    sae = unet_sae.sae
    change = (sae.decode(edited_code) - sae.decode(z)).transpose(1, 2).reshape(maps.shape)
    assert change.abs().max() > 0
    assert torch.allclose(erasure.edit(maps, torch.tensor([1])), maps + change, atol=1e-4)
    assert same_bits(erasure.edit(maps, torch.tensor([0])), maps)


def test_latents_that_stay_silent_leave_the_picture_as_it_was(pipe, unet_sae):
    base = picture(pipe, PROMPTS)
    table = torch.full((1, 1), torch.inf)
    silent = SAeUronErasure(unet_sae, torch.tensor([500]), torch.tensor([0]), torch.zeros(1, 1), table)
    with silent.attached(pipe):
        assert picture(pipe, PROMPTS) == base


def test_each_concept_brings_its_latents(pipe, unet_sae):
    method = replace(SAEURON, sae=unet_sae, features=2)
    cat, both = method.prepare(pipe, [CAT]), method.prepare(pipe, [CAT, DOG])
    assert (cat.bar < torch.inf).sum(1).tolist() == [2, 2, 2]
    assert ((both.bar < torch.inf).sum(1) >= 2).all()
    assert torch.equal(cat.factor[torch.isinf(cat.bar)], torch.ones(int(torch.isinf(cat.bar).sum())))
    assert (both.factor <= 1).all()
    sae_bytes = sum(t.numel() * t.element_size() for t in unet_sae.sae.state_dict().values())
    assert cat.nbytes == sae_bytes + 8 * 3 + 8 * len(cat.latents) + 2 * 4 * 3 * len(cat.latents)


def test_a_block_that_is_not_there_is_named(pipe):
    with pytest.raises(SnceError, match=r"no block 'up_blocks\.9'"):
        train_unet_sae(pipe, PROMPTS, "up_blocks.9", 8, 2, Sampling(1, 3.0, 2))
