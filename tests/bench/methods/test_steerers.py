"""Concept Steerers: what is added to a prompt is what the concept's prompt activates."""

from __future__ import annotations

import torch

from snce.bench.methods.steerers import ConceptSteerers
from tests.bench.methods.tiny import CODES, LOUD, QQ, SILENT, ZZZ
from tests.examples import encode, picture, same_bits


@CODES
def test_steering_adds_what_the_concepts_prompt_activates(sae, shared_pipe, tower):
    erasure = ConceptSteerers(sae, -0.7).prepare(shared_pipe, [ZZZ, QQ])
    x, prompt = tower.encode([SILENT]), tower.encode(["zzz, qq"])[0]
    u = (prompt - sae.b_dec) / sae.scale @ sae.W_enc.T + sae.b_enc
    written = sae.scale * (u.clamp_min(0) @ sae.W_dec)
    written[0] = 0  # begin-of-text
    kinds = tower.kinds(tower.tokenize([SILENT]))
    assert torch.allclose(erasure.edit(x, kinds), x - 0.7 * written, atol=1e-5)


@CODES
def test_steering_by_zero_is_the_identity(sae, shared_pipe, tower):
    drawn = picture(shared_pipe, LOUD)
    erasure = ConceptSteerers(sae, 0.0).prepare(shared_pipe, [ZZZ])
    with erasure.attached(shared_pipe):
        assert same_bits(encode(shared_pipe, [LOUD])[0], tower.encode([LOUD]))
        assert picture(shared_pipe, LOUD) == drawn
