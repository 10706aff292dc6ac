"""What is read from the denoiser and its schedule, under either prediction type."""

from __future__ import annotations

import pytest
import torch

from snce.bench.methods.denoise import encode, epsilon_scale, step_index
from snce.bench.methods.sampling import Sampler
from tests.bench.methods.tiny import PROMPTS, predicting
from tests.examples import tiny_pipeline


@pytest.fixture
def velocity():
    """A pipeline that predicts v."""
    return predicting(tiny_pipeline(0), "v_prediction")


def test_differences_of_v_become_differences_of_epsilon(velocity):
    rng = torch.Generator().manual_seed(0)
    x0, other_x0, e = (torch.randn(2, 4, 4, 4, generator=rng) for _ in range(3))
    t = torch.tensor([100, 900])
    alpha = velocity.scheduler.alphas_cumprod[t].sqrt().reshape(-1, 1, 1, 1)
    sigma = (1 - alpha.square()).sqrt()
    other_e = (alpha * x0 + sigma * e - alpha * other_x0) / sigma  # the same x_t
    v, other_v = velocity.scheduler.get_velocity(x0, e, t), velocity.scheduler.get_velocity(other_x0, other_e, t)
    assert torch.allclose(epsilon_scale(velocity.scheduler, t, x0) * (v - other_v), e - other_e, atol=1e-5)


def test_the_step_is_read_from_the_schedule(pipe):
    pipe.scheduler.set_timesteps(5)
    assert step_index(pipe.scheduler, pipe.scheduler.timesteps).tolist() == [0, 1, 2, 3, 4]
    assert step_index(pipe.scheduler, 999).tolist() == [0]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_sampler_draws_what_the_pipeline_draws(pipe, kind):
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=kind)
    sampler = Sampler(pipe, 4, 3.0)
    own = sampler.to_the_end(pipe.unet, encode(pipe, PROMPTS), torch.Generator().manual_seed(0))
    noise = sampler.start(pipe.unet, 2, torch.Generator().manual_seed(0))
    drawn = pipe(PROMPTS, num_inference_steps=4, guidance_scale=3.0, latents=noise, output_type="latent").images
    assert torch.allclose(own, drawn, atol=1e-5)
