"""ESD and concept ablation: what they train towards, and which weights they ship."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snce.bench.methods import ablation, esd, sampling
from snce.errors import SnceError
from tests.bench.methods.tiny import CA, CAT, DOG, ESD_, PROMPTS, predicting
from tests.examples import picture


@pytest.mark.parametrize("eta", [1.0, 2.5])
def test_esds_target_is_the_same_for_a_model_that_predicts_v_and_for_one_that_predicts_epsilon(pipe, monkeypatch, eta):
    """One model, told in v and in epsilon: at each timestep, the loss in epsilon is alpha^2 times that in v."""
    predict, timesteps = esd.predict, []
    alpha, sigma = pipe.scheduler.alphas_cumprod.sqrt(), (1 - pipe.scheduler.alphas_cumprod).sqrt()

    def in_epsilon(unet, x, t, c):
        return alpha[t] * predict(unet, x, t, c) + sigma[t] * x

    def recorded(unet, x, t, c):
        timesteps.append(int(t))
        return in_epsilon(unet, x, t, c)

    method = replace(ESD_, eta=eta, steps=6, lr=0.0, sampling_steps=4)
    in_v = method.prepare(predicting(pipe, "v_prediction"), [CAT]).losses
    monkeypatch.setattr(sampling, "predict", in_epsilon)
    monkeypatch.setattr(esd, "predict", recorded)
    found = method.prepare(predicting(pipe, "epsilon"), [CAT]).losses
    of_steps = timesteps[::3]  # the empty prompt, the concept, the trained copy
    assert len(set(of_steps)) > 1
    assert found == pytest.approx([float(alpha[t]) ** 2 * v for t, v in zip(of_steps, in_v, strict=True)], rel=1e-3)


def test_nbytes_counts_the_trained_weights(pipe):
    parameters = dict(pipe.unet.named_parameters())
    cross = {n: p.numel() * 4 for n, p in parameters.items() if ".attn2." in n}
    assert replace(ESD_, steps=0).prepare(pipe, [CAT]).nbytes == sum(cross.values())
    keys_and_values = sum(v for n, v in cross.items() if ".to_k." in n or ".to_v." in n)
    assert replace(CA, steps=0).prepare(pipe, [CAT]).nbytes == keys_and_values > 0


def test_an_anchor_may_be_the_empty_prompt(pipe):
    with replace(CA, anchor=lambda concept, prompt: "").prepare(pipe, [CAT, DOG]).attached(pipe):
        edited = picture(pipe, PROMPTS)
    assert edited != picture(pipe, PROMPTS)


def spoken(pipe, monkeypatch, method, concepts):
    """The (targets, anchors) that the method reads, in its order of pictures."""
    read, encode = [], ablation.encode
    monkeypatch.setattr(ablation, "encode", lambda pipe, prompts: read.append(list(prompts)) or encode(pipe, prompts))
    method.prepare(pipe, concepts)
    return read


def test_each_target_prompt_is_led_to_its_own_anchor(pipe, monkeypatch):
    method = replace(CA, images=40, anchor=lambda concept, prompt: prompt.replace(concept.name, "pet"))
    targets, anchors = spoken(pipe, monkeypatch, method, [CAT])
    assert set(zip(targets, anchors, strict=True)) == {("a red cat", "a red pet"), ("cats", "pets")}


def test_without_an_anchor_target_prompts_are_led_to_neutral_ones(pipe, monkeypatch):
    targets, anchors = spoken(pipe, monkeypatch, replace(CA, images=40), [CAT])
    assert set(targets) == set(CAT.targets)
    assert set(anchors) <= set(CAT.neutrals)


def test_pairs_whose_anchor_shows_another_erased_concept_are_left_out(pipe, monkeypatch):
    def other(concept, prompt):
        return "a dog" if prompt == "cats" else "tea"

    targets, anchors = spoken(pipe, monkeypatch, replace(CA, images=40, anchor=other), [CAT, DOG])
    assert set(anchors) == {"tea"}
    assert set(targets) == {"a red cat", *DOG.targets}


def test_an_anchor_that_always_shows_the_concept_is_an_error(pipe):
    with pytest.raises(SnceError, match="the anchor of every target prompt shows"):
        replace(CA, anchor=lambda concept, prompt: "a cat").prepare(pipe, [CAT])


def first_loss(pipe, **settings):
    return replace(CA, steps=1, batch=32, **settings).prepare(pipe, [CAT]).losses[0]


def test_the_prior_preservation_is_added_with_its_weight(pipe):
    none, one, three = (first_loss(pipe, prior=prior) for prior in (0.0, 1.0, 3.0))
    assert one > none > 0
    assert three - none == pytest.approx(3 * (one - none), rel=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_prior_preservation_asks_for_the_noise_of_the_anchors_pictures(pipe, monkeypatch, kind):
    """Where pictures and predictions are zero, it is the noise's mean square, in the scale of the prediction."""
    pipe = predicting(pipe, kind)
    monkeypatch.setattr(ablation.Sampler, "to_the_end", lambda self, unet, c, rng: self.start(unet, len(c), rng) * 0)
    monkeypatch.setattr(ablation, "predict", lambda unet, x, t, c: x * sum(p.sum() for p in unet.parameters()) * 0)
    found = replace(CA, steps=1, batch=40_000).prepare(pipe, [CAT]).losses[0]
    scale = pipe.scheduler.alphas_cumprod.mean() if kind == "v_prediction" else 1
    assert found == pytest.approx(float(scale), rel=0.03)
