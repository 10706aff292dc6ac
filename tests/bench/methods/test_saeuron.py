"""SAeUron: where its SAE sits, which latents it takes, and what it makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from snce.bench.methods.saeuron import SAeUronErasure, scores
from snce.bench.methods.saeuron_sae import Sampling, UNetSAE, last_cross_attention, train_unet_sae
from snce.errors import SnceError
from snce.sae.config import SAEConfig
from tests.bench.methods.tiny import CAT, DOG, PROMPTS, SAEURON
from tests.examples import picture, random_sae, same_bits


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
