"""SPM: its adapters, how much of them a prompt gets, and what is shipped."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from snce.bench.methods.adapters import Adapter, adapted
from snce.bench.methods.denoise import encode, tokenize
from snce.bench.methods.hooks import PromptTokens, recorded_prompts
from snce.bench.methods.spm import SPMErasure, Transport
from tests.bench.methods.tiny import CAT, DOG, PROMPTS, SPM_
from tests.examples import same_bits


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
