"""The weights that training begins with: those of a look at all embeddings at once, without holding these."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn.functional import normalize

from snce.checkpoint import generator
from snce.sae.config import SAEConfig
from snce.sae.initial import BLOCK, POOL, initialise
from snce.sae.metrics import kind_mean
from snce.sae.model import SparseAutoencoder, top_mask
from snce.text.positions import BEGIN, END, KINDS, PADDING, WORD
from tests.examples import random_embeddings, same_bits
from tests.neurons.test_codes import PeakBytes

if TYPE_CHECKING:
    from snce.text.harvest import Embeddings


def at_once(sae: SparseAutoencoder, data: Embeddings, rows: torch.Tensor, fitted: bool) -> None:
    """The definition: everything in float32, in memory."""
    x, kinds, rng = data.x[rows].float(), data.kinds[rows], generator(3, -1)
    present = [kind for kind in KINDS if (kinds == kind).any()]
    sae.b_dec.copy_(torch.stack([x[kinds == kind].mean(0) for kind in present]).mean(0))
    centred = x - sae.b_dec
    sae.scale.copy_(kind_mean(centred.square().sum(-1), kinds).sqrt().clamp_min(1e-6))
    pool = torch.cat([centred[kinds == kind][:POOL] for kind in present])
    drawn = pool[torch.randint(len(pool), (sae.config.latents,), generator=rng)]
    sae.W_dec.copy_(normalize(drawn + 1e-3 * sae.scale * sae.W_dec, dim=1))
    sae.W_enc.copy_(sae.W_dec)
    if fitted:
        x = pool[torch.randint(len(pool), (1024,), generator=rng)] / sae.scale
        pre = torch.relu(x @ sae.W_enc.T)
        written = (pre * top_mask(pre, sae.config.k)) @ sae.W_dec
        sae.W_enc.mul_((x * written).sum() / written.square().sum().clamp_min(1e-12))


def new(width: int) -> SparseAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SparseAutoencoder(SAEConfig(width, latents=200, k=4)).requires_grad_(False)


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("width", [32, 96])
@pytest.mark.parametrize("what", ["all kinds", "one kind", "a few", "whole blocks"])
def test_it_is_to_the_bit_that_of_all_embeddings_at_once(width, fitted, what):
    n = 5 if what == "a few" else 900
    data = random_embeddings(1, n=n, positions=24, d=width, dtype=torch.float16)
    if what == "one kind":
        data.kinds[data.kinds == PADDING] = BEGIN
        data.kinds[data.kinds == END] = BEGIN
    if what == "whole blocks":
        data.kinds[:] = BEGIN
        data.kinds[: 2 * BLOCK // 16, :16] = WORD
    rows = torch.randperm(n, generator=generator(1, 1))
    if n > 5:
        assert (data.kinds == WORD).sum() > BLOCK
    one, two = new(width), new(width)
    initialise(one, data, rows, generator(3, -1), fitted)
    at_once(two, data, rows, fitted)
    for name, expected in two.state_dict().items():
        assert same_bits(one.state_dict()[name], expected), name


def test_embeddings_are_not_held_in_memory():
    """With twice the prompts, it takes no more than their kinds and norms, a few bytes per position."""
    peaks = []
    for n in (600, 1200):
        data = random_embeddings(1, n=n, positions=77, d=64, dtype=torch.float16)
        with PeakBytes() as memory:
            initialise(new(64), data, torch.arange(n), generator(3, -1), True)
        peaks.append(memory.peak)
    assert peaks[1] - peaks[0] < 600 * 77 * 16  # the embeddings themselves: 128 bytes per position, and 256 in float32
