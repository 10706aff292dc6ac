"""ItD: which features it takes, which prompts it lets pass, and what it makes of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from snce.bench.methods.itd import DeactivationErasure, InterpretThenDeactivate, features
from snce.text.harvest import Embeddings
from snce.text.positions import BEGIN
from snce.text.prompts import Concept
from tests.bench.methods.tiny import CODES, LOUD, PLAIN_CODE, PROMPT_CODE, QQ, ZZZ
from tests.examples import encode, picture, same_bits, touched
from tests.studio import NEUTRALS, TARGETS


def top_of(sae, tower, prompt, top):
    """Features of one prompt, the slow way."""
    z = sae.encode(tower.encode([prompt]), tower.kinds(tower.tokenize([prompt]))).activations[0]
    ranked = sorted(((float(z[:, i].max()), i) for i in range(z.shape[1])), reverse=True)[:top]
    return {i for height, i in ranked if height > 0}


@CODES
@pytest.mark.parametrize("top", [3, 128])
def test_itds_features_are_those_of_targets_that_no_retain_prompt_has(sae, top, shared_pipe, tower):
    erasure = InterpretThenDeactivate(sae, top=top).prepare(shared_pipe, [ZZZ, QQ])
    targets = {i for p in (*ZZZ.targets, *QQ.targets) for i in top_of(sae, tower, p, top)}
    retained = {i for p in NEUTRALS for i in top_of(sae, tower, p, top)}
    assert set(erasure.features.tolist()) == targets - retained


@pytest.fixture(params=[PROMPT_CODE, PLAIN_CODE], ids=["prompt", "position"])
def half_open(request, tower):
    """An erasure whose threshold lies among the gaps of some prompts: with these prompts and their gaps."""
    prompts = [*TARGETS[:6], *NEUTRALS[:6]]
    x, kinds = tower.encode(prompts), tower.kinds(tower.tokenize(prompts))
    chosen = features(request.param, Embeddings(x[:6], kinds[:6]), 4).nonzero().flatten()
    shut = DeactivationErasure(request.param, chosen, -8.0, 1e9)
    gap = shut.reconstruct(x, kinds)[1].sort().values
    return replace(shut, threshold=float(gap[5] + gap[6]) / 2), prompts, x, kinds


def test_itd_leaves_prompts_below_the_threshold_bit_for_bit(half_open, shared_pipe):
    erasure, prompts, x, kinds = half_open
    passed = erasure.reconstruct(x, kinds)[1] >= erasure.threshold
    assert passed.sum() == 6
    with erasure.attached(shared_pipe):
        changed = touched(x, encode(shared_pipe, prompts)[0])
        assert torch.equal(changed, passed[:, None] & (kinds != BEGIN))
        loud, silent = (prompts[int(i)] for i in (passed.int().argmax(), passed.int().argmin()))
        drawn = {p: picture(shared_pipe, p) for p in (loud, silent)}
    assert drawn[silent] == picture(shared_pipe, silent)
    assert drawn[loud] != picture(shared_pipe, loud)


def test_itd_replaces_the_others_by_the_reconstruction_of_the_changed_code(half_open):
    erasure, _, x, kinds = half_open
    passed = erasure.reconstruct(x, kinds)[1] >= erasure.threshold
    z = erasure.sae.encode(x, kinds).activations
    z[..., erasure.features] *= -8
    made = erasure.sae.decode(z)
    content = kinds[passed] != BEGIN
    assert torch.allclose(erasure.edit(x, kinds)[passed][content], made[passed][content], atol=1e-4)
    unchanged = replace(erasure, factor=1.0, threshold=0.0)
    assert torch.allclose(unchanged.edit(x, kinds)[:, 1:], erasure.sae(x, kinds)[:, 1:], atol=1e-5)


def test_itd_does_not_look_at_other_prompts_of_the_batch(half_open):
    erasure, _, x, kinds = half_open
    alone = torch.cat([erasure.edit(x[i : i + 1], kinds[i : i + 1]) for i in range(len(x))])
    assert torch.allclose(erasure.edit(x, kinds), alone, atol=1e-4)


def test_itds_threshold_lets_all_targets_through_or_the_share_that_is_asked_for(shared_pipe, tower):
    x, kinds = tower.encode(TARGETS), tower.kinds(tower.tokenize(TARGETS))
    for missed, through in ((0.0, 12), (0.25, 10)):  # with the margin of one hundredth, at the least
        erasure = InterpretThenDeactivate(PLAIN_CODE, missed=missed).prepare(shared_pipe, [ZZZ])
        gap = erasure.reconstruct(x, kinds)[1].sort().values
        assert erasure.threshold == pytest.approx(0.99 * float(gap[12 - through]), rel=1e-5)
        assert int((gap >= erasure.threshold).sum()) >= through


def test_itd_without_a_feature_leaves_all_prompts(shared_pipe, tower):
    same = Concept("same", tuple(NEUTRALS), tuple(NEUTRALS))
    erasure = InterpretThenDeactivate(PLAIN_CODE).prepare(shared_pipe, [same])
    assert len(erasure.features) == 0
    with erasure.attached(shared_pipe):
        assert same_bits(encode(shared_pipe, [LOUD])[0], tower.encode([LOUD]))
