"""LEACE, Concept Steerers, ItD, SNCE: all edit the prompt's embedding, and touch nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from snce.bench.methods.itd import InterpretThenDeactivate
from snce.bench.methods.leace import Leace
from snce.bench.methods.neurons import SNCE, NeuronErasure
from snce.bench.methods.steerers import ConceptSteerers
from snce.errors import SnceError
from snce.text.towers import TextTower
from tests.bench.methods.tiny import LOUD, PLAIN_CODE, PROMPT_CODE, QQ, SILENT, ZZZ
from tests.examples import encode, picture, same_bits, state, touched

NAMES = ("leace", "steerers", "itd", "snce")


def method_called(name):
    if name == "leace":
        pytest.importorskip("concept_erasure")
        return Leace()
    return {
        "steerers": ConceptSteerers(PLAIN_CODE),
        "itd": InterpretThenDeactivate(PLAIN_CODE),
        "snce": SNCE(PROMPT_CODE),
    }[name]


@pytest.fixture(params=NAMES)
def method(request):
    return method_called(request.param)


@pytest.fixture
def erasure(method, shared_pipe):
    return method.prepare(shared_pipe, [ZZZ])


def edited(erasure, tower, prompts):
    """What the erasure makes of prompts, by its own function."""
    x = tower.encode(prompts)
    if isinstance(erasure, NeuronErasure):
        return erasure.eraser.edit(x)
    return erasure.edit(x, tower.kinds(tower.tokenize(prompts)))


def test_prepare_leaves_the_pipeline_as_it_is(method, shared_pipe):
    before, drawn = state(shared_pipe), picture(shared_pipe, LOUD)
    method.prepare(shared_pipe, [ZZZ, QQ])
    assert state(shared_pipe) == before
    assert picture(shared_pipe, LOUD) == drawn


def test_the_denoiser_reads_the_edited_prompt_and_the_untouched_negative(erasure, shared_pipe, tower):
    prompts = [LOUD, SILENT]
    plain = encode(shared_pipe, prompts, negative=prompts)
    with erasure.attached(shared_pipe):
        positive, negative = encode(shared_pipe, prompts, negative=prompts)
        again = encode(shared_pipe, prompts, negative=prompts)
    assert same_bits(positive, edited(erasure, tower, prompts))
    assert not torch.equal(positive[0], plain[0][0])
    assert same_bits(negative, plain[1])
    assert same_bits(again[0], positive)
    assert not touched(plain[0], positive)[:, 0].any()  # begin-of-text


def test_afterwards_everything_is_as_before(erasure, shared_pipe):
    before, drawn = state(shared_pipe), picture(shared_pipe, LOUD)
    with erasure.attached(shared_pipe):
        assert picture(shared_pipe, LOUD) != drawn
    assert state(shared_pipe) == before
    assert picture(shared_pipe, LOUD) == drawn
    with pytest.raises(TypeError), erasure.attached(shared_pipe):
        encode(shared_pipe, ["a", "b"], negative="not a list")
    assert state(shared_pipe) == before
    assert picture(shared_pipe, LOUD) == drawn


def test_a_failed_call_does_not_confuse_the_next(erasure, shared_pipe, tower):
    with erasure.attached(shared_pipe):
        with pytest.raises(TypeError):
            encode(shared_pipe, ["a", "b"], negative="not a list")
        assert same_bits(encode(shared_pipe, [LOUD], negative=[LOUD])[0], edited(erasure, tower, [LOUD]))


def test_given_embeddings_are_used_as_they_are_and_so_is_the_negative_beside_them(erasure, shared_pipe):
    given = encode(shared_pipe, [LOUD])[0]
    drawn = picture(shared_pipe, None, prompt_embeds=given, negative_prompt=LOUD)
    with erasure.attached(shared_pipe):
        assert picture(shared_pipe, None, prompt_embeds=given, negative_prompt=LOUD) == drawn


def test_the_tower_is_read_as_it_is_unless_the_edited_one_is_asked_for(erasure, shared_pipe, tower):
    plain = tower.encode([LOUD])
    with erasure.attached(shared_pipe):
        assert same_bits(tower.encode([LOUD]), plain)
        assert same_bits(tower.encode([LOUD], edited=True), edited(erasure, tower, [LOUD]))


def test_the_user_may_ask_for_several_pictures_and_for_clip_skip(erasure, pipe, tower):
    expected = edited(erasure, tower, [LOUD])
    with erasure.attached(pipe):
        assert same_bits(pipe.encode_prompt(LOUD, "cpu", 2, False)[0].detach(), expected.expand(2, -1, -1))
    if not hasattr(pipe.text_encoder, "text_model"):  # diffusers looks for it; not every transformers version has it
        vars(pipe.text_encoder)["text_model"] = pipe.text_encoder
    plain = encode(pipe, [LOUD], negative=[LOUD], clip_skip=1)
    with erasure.attached(pipe):
        positive, negative = encode(pipe, [LOUD], negative=[LOUD], clip_skip=1)
    assert touched(plain[0], positive).any()
    assert same_bits(negative, plain[1])


def test_gradients_pass_through_the_edit(erasure, shared_pipe, tower):
    embedding = shared_pipe.text_encoder.get_input_embeddings().weight
    with erasure.attached(shared_pipe):
        out = shared_pipe.text_encoder(tower.tokenize([LOUD]).ids)[0]
    assert same_bits(out.detach(), edited(erasure, tower, [LOUD]))
    (gradient,) = torch.autograd.grad(out.square().sum(), embedding)
    plain = shared_pipe.text_encoder(tower.tokenize([LOUD]).ids)[0]
    (unedited,) = torch.autograd.grad(plain.square().sum(), embedding)
    assert gradient.isfinite().all()
    assert (gradient != 0).any()
    assert not torch.allclose(gradient, unedited)


@pytest.mark.parametrize("name", ["leace", "steerers", "itd"])  # for SNCE's edit see tests/erase/test_edit.py
def test_half_precision_embeddings_stay_half_precision(name, shared_pipe, tower):
    erasure = method_called(name).prepare(shared_pipe, [ZZZ])
    x, kinds = tower.encode([LOUD]), tower.kinds(tower.tokenize([LOUD]))
    out = erasure.edit(x.half(), kinds)
    assert out.dtype == torch.float16
    assert torch.allclose(out.float(), erasure.edit(x, kinds), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped(name, shared_pipe, tower):
    d, positions, m = tower.width, tower.positions, PLAIN_CODE.config.latents
    erasure = method_called(name).prepare(shared_pipe, [ZZZ, QQ])
    floats = {
        "leace": 2 * d + 2 * d + d,  # two concepts: rank two
        "steerers": positions * d,
        "itd": 2 * m * d + m + d + 1,
        "snce": 2 * (2 * d + 4),
    }
    extra = 2 if name == "snce" else 8 * len(erasure.features) if name == "itd" else 0  # flags; indices
    assert erasure.nbytes == 4 * floats[name] + extra


@pytest.mark.parametrize("name", NAMES)
def test_other_pipelines_are_refused(name):
    with pytest.raises(SnceError, match="object is not a known pipeline"):
        method_called(name).prepare(object(), [ZZZ])


@pytest.mark.parametrize("name", NAMES)
def test_on_emblem_the_prompt_changes_and_the_pipeline_is_left_as_found(name, emblem, trained):
    from snce.emblem.concepts import load_concept

    method = method_called(name)
    if name != "leace":
        method = replace(method, sae=trained.sae)
    _, hooks = state(emblem)
    tower = TextTower.from_pipeline(emblem)
    plain, drawn = tower.encode(["a cigarette"]), picture(emblem, "a cigarette")
    erasure = method.prepare(emblem, [load_concept("cigarette")])
    with erasure.attached(emblem):
        positive, negative = encode(emblem, ["a cigarette"], negative=["a cigarette"])
        assert picture(emblem, "a cigarette") != drawn
    assert touched(plain, positive).any()
    assert same_bits(negative, plain)
    assert picture(emblem, "a cigarette") == drawn
    assert state(emblem)[1] == hooks
    assert "encode_prompt" not in vars(emblem)
