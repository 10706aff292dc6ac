"""SLD: the formula of its paper, step by step, and the momentum that it keeps."""

from __future__ import annotations

import threading

import pytest
import torch

from snce.bench.methods.denoise import encode
from snce.bench.methods.sld import SLD
from tests.bench.methods.tiny import CAT, PROMPTS, SLD_AT_ONCE, predicting
from tests.examples import picture, same_bits


def test_sld_has_the_published_settings():
    assert SLD() == SLD.medium() == SLD(10, 1000, 0.01, 0.3, 0.4)
    assert SLD.strong() == SLD(7, 2000, 0.025, 0.5, 0.7)
    assert SLD.max() == SLD(0, 5000, 1.0, 0.5, 0.7)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("settings", [SLD(0, 0.0), SLD(2, 5000.0, 1.0)], ids=["scale 0", "in the warm-up"])
def test_sld_without_effect_gives_the_bytes_of_the_base_model(pipe, kind, settings):
    predicting(pipe, kind)
    base = picture(pipe, PROMPTS)  # two steps
    with settings.prepare(pipe, [CAT]).attached(pipe):
        assert picture(pipe, PROMPTS) == base


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_two_steps_of_sld_are_the_formula_in_epsilon(pipe, kind):
    predicting(pipe, kind)
    pipe.scheduler.set_timesteps(4)
    settings = SLD(1, 300.0, 0.001, 0.5, 0.7)
    prompt, null, concept = encode(pipe, ["a hat"]), encode(pipe, [""]), encode(pipe, ["cat"])
    rng = torch.Generator().manual_seed(0)
    nu = 0
    erasure = settings.prepare(pipe, [CAT])
    with erasure.attached(pipe):
        for step in (0, 2):
            t = pipe.scheduler.timesteps[step]
            x = torch.randn(1, 4, 4, 4, generator=rng)
            got = pipe.unet(torch.cat([x, x]), t, torch.cat([null, prompt])).sample
            base = pipe.unet.__class__.forward(
                pipe.unet, torch.cat([x, x, x]), t, torch.cat([null, prompt, concept])
            ).sample
            alpha = pipe.scheduler.alphas_cumprod[t].sqrt()
            sigma = (1 - alpha**2).sqrt()
            u, c, s = (alpha * base + sigma * x if kind == "v_prediction" else base).chunk(3)
            mu = ((c - s).abs() * settings.scale).clamp(max=1)
            mu = torch.where(c - s >= settings.threshold, 0, mu)
            gamma = mu * (s - u) + settings.momentum_scale * nu
            nu = settings.momentum_beta * nu + (1 - settings.momentum_beta) * gamma
            expected = c - gamma if step >= settings.warmup else c
            if kind == "v_prediction":
                expected = (expected - sigma * x) / alpha
            assert 0 < mu.count_nonzero() < mu.numel()
            assert torch.allclose(got[1:], expected, atol=1e-5)
            assert torch.allclose(got[:1], base[:1], atol=1e-6)


@torch.no_grad()
def test_the_momentum_of_one_thread_is_not_seen_by_another(pipe):
    pipe.scheduler.set_timesteps(4)
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    embeddings = torch.cat([encode(pipe, [""]), encode(pipe, ["a hat"])])

    def call(step):
        with torch.no_grad():
            return pipe.unet(torch.cat([x, x]), pipe.scheduler.timesteps[step], embeddings).sample

    erasure = SLD_AT_ONCE.prepare(pipe, [CAT])
    with erasure.attached(pipe):
        fresh = call(1)
    with erasure.attached(pipe):
        call(0)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(call(1)))
        thread.start()
        thread.join()
        assert same_bits(seen[0], fresh)
        assert not same_bits(call(1), fresh)


@torch.no_grad()
def test_an_unguided_call_is_guided_away_from_the_concept_too(pipe):
    pipe.scheduler.set_timesteps(4)
    t = pipe.scheduler.timesteps[0]
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    null, prompt = encode(pipe, [""]), encode(pipe, ["a hat"])
    erasure = SLD_AT_ONCE.prepare(pipe, [CAT])
    with erasure.attached(pipe):
        both = pipe.unet(torch.cat([x, x]), t, torch.cat([null, prompt])).sample
    with erasure.attached(pipe):
        alone = pipe.unet(x, t, prompt, return_dict=False)[0]
    assert torch.allclose(alone, both[1:], atol=1e-5)


def test_gradients_reach_the_prompt_through_sld(pipe):
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    prompt = encode(pipe, ["a hat"]).requires_grad_()
    with SLD_AT_ONCE.prepare(pipe, [CAT]).attached(pipe):
        pipe.unet(x, 500, prompt).sample.square().sum().backward()
    assert prompt.grad is not None
    assert prompt.grad.abs().max() > 0
