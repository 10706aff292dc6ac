"""Negative prompt: the names of the concepts, as the user would write them."""

from __future__ import annotations

import pytest

from snce.bench.methods.negative_prompt import NegativePrompt
from snce.bench.methods.sld import SLD
from tests.bench.methods.tiny import CAT, DOG, PROMPTS, predicting
from tests.examples import picture


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_it_gives_the_bytes_of_a_negative_prompt(pipe, kind):
    predicting(pipe, kind)
    with NegativePrompt().prepare(pipe, [CAT, DOG]).attached(pipe):
        one, many = picture(pipe, "green tea"), picture(pipe, PROMPTS)
        own = picture(pipe, "green tea", negative_prompt="rain")
        own_many = picture(pipe, PROMPTS, negative_prompt=["rain", ""])
    assert one == picture(pipe, "green tea", negative_prompt="cat, dog")
    assert many == picture(pipe, PROMPTS, negative_prompt=["cat, dog"] * 2)
    assert own == picture(pipe, "green tea", negative_prompt="rain, cat, dog")
    assert own_many == picture(pipe, PROMPTS, negative_prompt=["rain, cat, dog", "cat, dog"])


def test_without_guidance_a_negative_prompt_does_nothing(pipe):
    base = picture(pipe, PROMPTS, guidance_scale=1.0)
    with NegativePrompt().prepare(pipe, [CAT]).attached(pipe):
        assert picture(pipe, PROMPTS, guidance_scale=1.0) == base


def test_a_name_is_all_that_is_shipped(pipe):
    assert NegativePrompt().prepare(pipe, [CAT, DOG]).nbytes == len("cat, dog")
    assert SLD().prepare(pipe, [CAT, DOG]).nbytes == len("cat, dog")
