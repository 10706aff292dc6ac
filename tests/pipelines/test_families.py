"""The tiny pipelines are fit for tests: repeatable, finite in every precision, and with prompts that differ."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.examples import same_bits
from tests.pipelines.denoiser import received, run
from tests.pipelines.families import CALLS, FAMILIES
from tests.pipelines.hook_points import FAMILY_FACTS
from tests.pipelines.rows import PROMPTS, guided
from tests.pipelines.spy import spy

every_family = pytest.mark.parametrize("name", FAMILIES)


@every_family
def test_a_builder_makes_the_class_that_it_is_named_by(family_pipe, name):
    assert type(family_pipe(name)).__name__ == name
    assert CALLS.keys() == FAMILIES.keys()


@every_family
def test_the_seed_makes_all_weights(family_pipe, name):
    def weights(pipe):
        parts = {part: model for part, model in pipe.components.items() if isinstance(model, nn.Module)}
        return {f"{part}.{key}": t for part, model in parts.items() for key, t in model.state_dict().items()}

    random = torch.random.get_rng_state()
    first, again, other = weights(family_pipe(name)), weights(FAMILIES[name](0)), weights(FAMILIES[name](1))
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(same_bits(first[key], again[key]) for key in first)
    encoders = {point.encoder for point in FAMILY_FACTS[name].points}
    for part in encoders | {"vae", "unet" if hasattr(family_pipe(name), "unet") else "transformer"}:
        assert any(not same_bits(first[key], other[key]) for key in first if key.startswith(f"{part}."))


@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_text_and_picture_are_finite(name, dtype):
    pipe = FAMILIES[name](0).to(dtype)
    assert all(text.isfinite().all() for text in received(pipe, PROMPTS[0]).values())
    assert torch.as_tensor(run(pipe, PROMPTS[0], output_type="pt")).isfinite().all()


@every_family
def test_prompts_differ_clearly_in_every_output_that_reaches_the_denoiser(family_pipe, name):
    pipe = family_pipe(name)
    for point in FAMILY_FACTS[name].points:
        with spy(pipe, point) as seen:
            run(pipe, **guided(pipe, output_type="latent"))
        one, two = seen.outputs[0]
        differ = seen.tokens[0][0] != seen.tokens[0][1]
        if one.ndim == 2:
            one, two = one[differ], two[differ]
        assert (one - two).norm() > 0.3 * two.norm()
