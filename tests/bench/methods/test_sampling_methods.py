"""Negative prompt, SLD, SAFREE: all change how pictures are sampled, and touch nothing else."""

from __future__ import annotations

import pytest
import torch

from snce.bench.methods.negative_prompt import NegativePrompt
from snce.bench.methods.safree import SAFREE
from snce.errors import SnceError
from tests.bench.methods.tiny import CAT, PROMPTS, SAFREE_ALWAYS, SLD_AT_ONCE, predicting, weights
from tests.examples import picture, same_bits, state

METHODS = [NegativePrompt(), SLD_AT_ONCE, SAFREE_ALWAYS]
ids = [m.name for m in METHODS]


def drawn_from_embeddings(pipe, prompts, seed=0, **options):
    """As the benchmark draws: prompts are encoded first."""
    with torch.no_grad():
        prompt, negative = pipe.encode_prompt(prompts, "cpu", 1, True)
    return picture(pipe, None, seed, prompt_embeds=prompt, negative_prompt_embeds=negative, **options)


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_it_changes_the_picture_of_the_concept(pipe, method):
    with method.prepare(pipe, [CAT]).attached(pipe):
        edited = picture(pipe, "a red cat")
    assert edited != picture(pipe, "a red cat")


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_encoding_prompts_first_gives_the_same_pictures(pipe, method):
    with method.prepare(pipe, [CAT]).attached(pipe):
        assert drawn_from_embeddings(pipe, PROMPTS) == picture(pipe, PROMPTS)


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_a_picture_does_not_depend_on_what_was_drawn_before(pipe, method):
    with method.prepare(pipe, [CAT]).attached(pipe):
        first = picture(pipe, PROMPTS)
        picture(pipe, ["blue sky"])
        assert picture(pipe, PROMPTS) == first


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_a_picture_does_not_depend_on_a_call_that_broke_off(pipe, method):
    def stop(*_):
        raise KeyboardInterrupt

    with method.prepare(pipe, [CAT]).attached(pipe):
        first = picture(pipe, PROMPTS)
        with pytest.raises(KeyboardInterrupt):
            pipe("a hat", num_inference_steps=4, callback_on_step_end=stop)
        assert picture(pipe, PROMPTS) == first


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_afterwards_everything_is_as_before(pipe, method):
    base = picture(pipe, PROMPTS)
    before, bits = state(pipe), weights(pipe)
    erasure = method.prepare(pipe, [CAT])

    def fail():
        with erasure.attached(pipe):
            picture(pipe, PROMPTS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state(pipe) == before
    assert all(same_bits(v, bits[k]) for k, v in weights(pipe).items())
    assert picture(pipe, PROMPTS) == base


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_pipelines_of_another_kind_are_refused(pipe, method):
    with pytest.raises(SnceError, match="prediction type 'sample'"):
        method.prepare(predicting(pipe, "sample"), [CAT])


@pytest.mark.parametrize("method", [NegativePrompt(), SLD_AT_ONCE, SAFREE(midpoint=0.0)], ids=ids)
@torch.no_grad()
def test_emblem_draws_something_else_for_the_concept(emblem, method):
    from snce.emblem.concepts import load_concept

    before = state(emblem)
    erasure = method.prepare(emblem, [load_concept("cigarette")])

    def draw():
        rng = [torch.Generator().manual_seed(i) for i in range(2)]
        with torch.autocast("cpu", torch.bfloat16):
            prompt, negative = emblem.encode_prompt(["a cigarette", "a pink hat"], "cpu", 1, True)
            return emblem(prompt_embeds=prompt, negative_prompt_embeds=negative, guidance_scale=3.0,
                          num_inference_steps=4, generator=rng, output_type="latent").images  # fmt: skip

    base = draw()
    with erasure.attached(emblem):
        edited = draw()
    assert torch.isfinite(edited).all()
    assert not same_bits(edited[0], base[0])
    assert same_bits(draw(), base)
    assert {k: v for k, v in state(emblem)[0].items() if not k.startswith("_")} == {
        k: v for k, v in before[0].items() if not k.startswith("_")
    }
