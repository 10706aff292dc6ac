"""ESD, concept ablation, SPM, SAeUron: all train, by their seed alone, and leave the given pipeline alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from snce.bench.methods.ablation import ConceptAblation
from snce.bench.methods.esd import ESD
from snce.bench.methods.saeuron import SAeUron, SAeUronErasure
from snce.bench.methods.saeuron_sae import Sampling
from snce.bench.methods.spm import SPM, SPMErasure
from snce.errors import SnceError
from snce.sae.config import TrainConfig
from snce.text.prompts import Concept
from tests.bench.methods.tiny import CA, CAT, DOG, ESD_, PROMPTS, SAEURON, SPM_, weights
from tests.examples import picture, same_bits, state, tiny_pipeline

METHODS = [ESD_, CA, SPM_, SAEURON]
ids = [m.name for m in METHODS]
WITH_LOSS = METHODS[:3]


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
    alone = {SPM_: {"anchoring": 0.0}, CA: {"prior": 0.0}}  # without what keeps the rest
    fields = {"steps": 16, "lr": lr, "sampling_steps": 1, "batch": 8} | alone.get(method, {})
    losses = replace(method, **fields).prepare(pipe, [concept]).losses
    assert len(losses) == 16
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_pipelines_of_another_kind_are_refused(pipe, method):
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type="sample")
    with pytest.raises(SnceError, match="prediction type 'sample'"):
        method.prepare(pipe, [CAT])


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
