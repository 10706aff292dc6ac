"""ESD and concept ablation: what they train towards, and which weights they ship."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.bench.methods.tiny import CA, CAT, DOG, ESD_, PROMPTS
from tests.examples import picture


@pytest.mark.parametrize("eta", [1.0, 2.5])
def test_a_target_whose_weights_add_up_to_one_is_the_same_in_v_and_in_epsilon(eta):
    rng = torch.Generator().manual_seed(0)
    x, v_null, v_concept = torch.randn(3, 4, generator=rng)
    alpha, sigma = 0.6, 0.8

    def epsilon(v):
        return alpha * v + sigma * x

    in_epsilon = epsilon(v_null) - eta * (epsilon(v_concept) - epsilon(v_null))
    assert torch.allclose(epsilon(v_null - eta * (v_concept - v_null)), in_epsilon, atol=1e-6)


def test_nbytes_counts_the_trained_weights(pipe):
    parameters = dict(pipe.unet.named_parameters())
    cross = {n: p.numel() * 4 for n, p in parameters.items() if ".attn2." in n}
    assert replace(ESD_, steps=0).prepare(pipe, [CAT]).nbytes == sum(cross.values())
    keys_and_values = sum(v for n, v in cross.items() if ".to_k." in n or ".to_v." in n)
    assert replace(CA, steps=0).prepare(pipe, [CAT]).nbytes == keys_and_values > 0


def test_an_anchor_may_be_the_empty_prompt(pipe):
    with replace(CA, anchor="empty").prepare(pipe, [CAT, DOG]).attached(pipe):
        edited = picture(pipe, PROMPTS)
    assert edited != picture(pipe, PROMPTS)
