"""When the pipelines call their text encoders, with what, and how they lay the results out for the denoiser."""

from __future__ import annotations

from contextlib import ExitStack
from inspect import signature

import pytest
import torch

from tests.examples import same_bits
from tests.pipelines.denoiser import received, run
from tests.pipelines.families import FAMILIES
from tests.pipelines.hook_points import FAMILY_FACTS, SD3, SDXL, STABLE_DIFFUSION
from tests.pipelines.rows import PROMPTS, assert_same, guided, received_rows
from tests.pipelines.spy import spy

every_family = pytest.mark.parametrize("name", FAMILIES)


def of(*facts):
    return pytest.mark.parametrize("name", [name for name, family in FAMILY_FACTS.items() if family in facts])


def encoders(name):
    """One hook point for each text encoder, in the order of their names."""
    return {point.encoder: point for point in FAMILY_FACTS[name].points}


@pytest.fixture
def calls(family_pipe, monkeypatch):
    """What a pipeline calls while it runs, in order: `encode_prompt`, and its encoders with a text of the batch."""

    def watch(name, **options):
        pipe, events = family_pipe(name), []
        encode_prompt = pipe.encode_prompt

        def watched(*args, **kwargs):
            events.append("encode_prompt")
            return encode_prompt(*args, **kwargs)

        monkeypatch.setitem(vars(pipe), "encode_prompt", watched)
        with ExitStack() as stack:
            for encoder, point in encoders(name).items():
                tokenizer = getattr(pipe, point.tokenizer)

                def called(_module, args, given, encoder=encoder, tokenizer=tokenizer):
                    text = tokenizer.decode((args[0] if args else given["input_ids"])[0], skip_special_tokens=True)
                    events.append((encoder, "prompt" if "owl" in text else "given" if "rain" in text else "empty"))

                module = getattr(pipe, encoder)
                entry = module if point.output else module.text_model
                stack.callback(entry.register_forward_pre_hook(called, with_kwargs=True).remove)
            run(pipe, **options)
        return events

    return watch


def expected_calls(name, kinds):
    order = [[(encoder, kind) for encoder in sorted(encoders(name))] for kind in kinds]
    if FAMILY_FACTS[name].encodings == 2:
        return [event for part in order for event in ["encode_prompt", *part]]
    return ["encode_prompt", *(event for part in order for event in part)]


@every_family
def test_each_encoder_is_called_for_the_prompt_and_then_for_the_negative_prompt(family_pipe, calls, name):
    negative = FAMILY_FACTS[name].negative
    kinds = ["prompt", negative] if negative else ["prompt"]
    assert calls(name, **guided(family_pipe(name))) == expected_calls(name, kinds)


@every_family
def test_without_a_negative_prompt_the_empty_one_is_encoded_unless_the_table_says_otherwise(calls, name):
    kinds = ["prompt", "empty"] if FAMILY_FACTS[name].without == "empty" else ["prompt"]
    assert calls(name, prompt=list(PROMPTS)) == expected_calls(name, kinds)


def test_clap_is_never_called_as_a_whole(family_pipe):
    pipe, called = family_pipe("AudioLDM2Pipeline"), []
    handle = pipe.text_encoder.register_forward_pre_hook(lambda *_: called.append(1))
    try:
        run(pipe, **guided(pipe))
    finally:
        handle.remove()
    assert not called


@every_family
def test_a_prompt_is_received_alone_as_in_a_batch(family_pipe, untouched_rows, name):
    """To rounding: the longest one, so that the batch does not pad it."""
    pipe = family_pipe(name)
    first = {option: value[:1] for option, value in guided(pipe).items() if isinstance(value, list)}
    alone, _ = received_rows(pipe, **first)
    batch, _ = untouched_rows(name)
    for argument, (row,) in alone.items():
        torch.testing.assert_close(row, batch[argument][0], rtol=1e-4, atol=1e-4)


@every_family
def test_several_pictures_per_prompt_repeat_the_rows_of_one_encoding(family_pipe, untouched_rows, name):
    pipe, family = family_pipe(name), FAMILY_FACTS[name]
    parameters = signature(type(pipe).__call__).parameters
    option = next(name for name in parameters if name.startswith("num_") and name.endswith("_per_prompt"))
    with spy(pipe, family.points[0]) as seen:
        twice = received_rows(pipe, **{option: 2})
    assert [len(tokens) for tokens in seen.tokens] == [len(PROMPTS)] * (2 if family.negative else 1)
    for rows, once in zip(twice, untouched_rows(name), strict=True):
        for argument, (a, b) in once.items():
            repeated = [a, b, a, b] if argument in family.disordered else [a, a, b, b]
            once[argument] = repeated if family.several else [a, b]
        assert_same(rows, once)


@of(STABLE_DIFFUSION)
def test_clip_skip_needs_an_alias_of_the_encoder_in_itself(family_pipe, name):
    """These versions of diffusers and transformers do not fit together; once they do, the alias below can go."""
    with pytest.raises(AttributeError, match="no attribute 'text_model'"):
        run(family_pipe(name), PROMPTS[0], clip_skip=1)


@of(STABLE_DIFFUSION)
def test_clip_skip_sends_a_hidden_state_through_the_final_norm_once_more(family_pipe, name, monkeypatch):
    pipe = family_pipe(name)
    monkeypatch.setitem(vars(pipe.text_encoder), "text_model", pipe.text_encoder)
    point = FAMILY_FACTS[name].points[0]
    with spy(pipe, point) as seen:
        prompts, negatives = received_rows(pipe, clip_skip=1)
    assert len(seen.tokens) == 2
    assert len(seen.outputs) == 3  # the prompt's own, that of the state chosen, the negative prompt's
    with torch.no_grad():
        states = pipe.text_encoder(seen.tokens[0], output_hidden_states=True).hidden_states
        chosen = pipe.text_encoder.final_layer_norm(states[-2])
    for i in range(len(PROMPTS)):
        assert same_bits(prompts["encoder_hidden_states"][i], seen.outputs[1][i])
        assert same_bits(prompts["encoder_hidden_states"][i], chosen[i])
        assert same_bits(negatives["encoder_hidden_states"][i], seen.outputs[2][i])


@of(SDXL, SD3)
def test_clip_skip_takes_the_state_before_for_the_prompt_alone(family_pipe, untouched_rows, name):
    pipe = family_pipe(name)
    _, untouched = untouched_rows(name)
    points = [point for point in FAMILY_FACTS[name].points if point.output[0] == "hidden_states"]
    for point in points:
        with spy(pipe, point) as seen:
            prompts, negatives = received_rows(pipe, clip_skip=1)
        with torch.no_grad():
            encoder = getattr(pipe, point.encoder)
            states = encoder(seen.tokens[0], output_hidden_states=True).hidden_states
        for i, row in enumerate(prompts["encoder_hidden_states"]):
            assert same_bits(row[: len(states[-3][i]), point.lands.width], states[-3][i])
        assert_same(negatives, untouched)


@of(SDXL)
def test_sdxl_puts_zeros_where_no_negative_prompt_is_given(family_pipe, name):
    pipe = family_pipe(name)
    with spy(pipe, SDXL.points[0]) as seen:
        rows = received(pipe, PROMPTS[0])
    assert len(seen.tokens) == 1
    assert not any(part[0].any() for part in rows.values())
    assert all(part[1].any() for part in rows.values())
