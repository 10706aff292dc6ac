"""Erasers on pipelines that are used in other ways: negative prompts, several pictures, half precision, LoRA,
offloading, compiled encoders, other pipelines around the same encoders."""

from __future__ import annotations

import re
import warnings
from contextlib import ExitStack
from dataclasses import replace
from inspect import signature

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from torch import nn

from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.text import towers
from snce.text.towers import TextTower, tower_at
from tests.examples import same_bits, tiny_pipeline
from tests.pipelines.denoiser import run
from tests.pipelines.families import FAMILIES
from tests.pipelines.hook_points import FAMILY_FACTS
from tests.pipelines.rows import NEGATIVES, PROMPTS, assert_same, received_rows
from tests.pipelines.test_erasing import assert_lands, content, eraser_of, towers_of

families = pytest.mark.parametrize("name", FAMILIES)
negatives = pytest.mark.parametrize("name", [n for n, family in FAMILY_FACTS.items() if family.negative == "given"])
SDXL = "StableDiffusionXLPipeline"


def rows_of(rows, i):
    return {argument: [part[i]] for argument, part in rows.items()}


def differ(rows, others) -> bool:
    return any(not same_bits(a, b) for name in rows for a, b in zip(rows[name], others[name], strict=True))


@negatives
def test_negative_prompts_are_edited_on_request(family_pipe, untouched_rows, name):
    pipe = family_pipe(name)
    _, plain_negative = untouched_rows(name)
    eraser = eraser_of(pipe, loud=NEGATIVES[0], silent=NEGATIVES[1])
    if name == "SanaPipeline":  # it puts prompts into a template and negative prompts into none: they fire elsewhere
        eraser = replace(eraser, neurons=eraser.neurons._replace(threshold=torch.zeros(1)))
    with eraser.attach(pipe):
        _, negative = received_rows(pipe)
        assert_same(negative, plain_negative)
    with eraser.attach(pipe, edit_negative=True):
        _, negative = received_rows(pipe)
    assert differ(rows_of(negative, 0), rows_of(plain_negative, 0))
    if name in ("SanaPipeline", "AudioLDM2Pipeline"):  # the second pads negative prompts as far as its prompts
        return
    assert_same(rows_of(negative, 1), rows_of(plain_negative, 1))
    for part, tower in zip(eraser.parts, sorted(towers_of(pipe), key=lambda t: t.place), strict=True):
        x, mask, ids = content(tower, NEGATIVES)
        assert_lands(pipe, tower, part.edit(x, mask=mask)[0], ids[0], negative, 0)


@families
def test_all_pictures_of_a_prompt_are_edited_alike(family_pipe, name):
    pipe, family = family_pipe(name), FAMILY_FACTS[name]
    parameters = signature(type(pipe).__call__).parameters
    option = next(name for name in parameters if name.startswith("num_") and name.endswith("_per_prompt"))
    with eraser_of(pipe).attach(pipe):
        once, _ = received_rows(pipe)
        twice, _ = received_rows(pipe, **{option: 2 if family.several else 1})
    for argument, (a, b) in once.items():
        repeated = [a, b, a, b] if argument in family.disordered else [a, a, b, b]
        assert_same({argument: twice[argument]}, {argument: repeated if family.several else [a, b]})


@families
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_bits_of_silent_prompts(name, dtype):
    pipe = FAMILIES[name](0).to(dtype)
    plain, plain_negative = received_rows(pipe)
    with eraser_of(pipe).attach(pipe):
        rows, negative = received_rows(pipe)
    assert_same(rows_of(rows, 1), rows_of(plain, 1))
    assert differ(rows_of(rows, 0), rows_of(plain, 0))
    assert_same(negative, plain_negative)


@pytest.mark.parametrize("name", [SDXL, "StableDiffusion3Pipeline"])
def test_clip_skip_is_refused_where_it_gets_around_the_eraser(family_pipe, name):
    pipe = family_pipe(name)
    with eraser_of(pipe).attach(pipe), pytest.raises(SnceError, match=r"clip_skip .* output\.hidden_states\[-2\]"):
        run(pipe, PROMPTS[0], clip_skip=1)


def embeddings_of(pipe):
    """The arguments with which prompts can be replaced by their embeddings."""
    encoded = pipe.encode_prompt(prompt=PROMPTS[0], device="cpu", num_images_per_prompt=1,
                                 do_classifier_free_guidance=True)  # fmt: skip
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    return dict(zip(names, encoded, strict=True))


def test_a_guard_refuses_embeddings_in_place_of_prompts(family_pipe):
    pipe = family_pipe(SDXL)
    given, eraser = embeddings_of(pipe), eraser_of(pipe)
    with eraser.attach(pipe):
        run(pipe, None, **given)
    with eraser.attach(pipe, guard=True):
        with pytest.raises(SnceError, match="prompt_embeds is refused by the eraser's guard"):
            run(pipe, None, **given)
        run(pipe, PROMPTS[0])
        with eraser.attach(pipe), pytest.raises(SnceError, match="guard"):  # one guard is enough
            run(pipe, None, **given)
    run(pipe, None, **given)


@families
def test_a_guard_sees_the_embeddings_that_a_pipeline_is_given_or_is_refused(family_pipe, name):
    pipe = family_pipe(name)
    if name == "ZImagePipeline":
        plain, _ = received_rows(pipe)
        with pytest.raises(SnceError, match="guard cannot see the prompt embeddings that a ZImagePipeline is given"):
            eraser_of(pipe).attach(pipe, guard=True)
        assert_same(received_rows(pipe)[0], plain)
        return
    arguments = dict.fromkeys(signature(pipe.encode_prompt).parameters) | {"prompt_embeds": torch.zeros(1, 1, 1)}
    with eraser_of(pipe).attach(pipe, guard=True), pytest.raises(SnceError, match="prompt_embeds is refused"):
        pipe.encode_prompt(**arguments)


def test_an_eraser_for_some_of_the_towers_says_which_it_leaves_open(family_pipe):
    pipe = family_pipe(SDXL)
    first, second, pooled = eraser_of(pipe).parts
    with pytest.warns(UserWarning, match=rf"no eraser for {re.escape(second.place)}, {re.escape(pooled.place)}: "):
        attachment = first.attach(pipe)
    with attachment, warnings.catch_warnings():
        warnings.simplefilter("error")
        with (second | pooled).attach(pipe):
            pass


def test_a_guard_needs_a_pipeline(tower, erasers):
    with pytest.raises(SnceError, match="guard needs a pipeline"):
        erasers[0][0].attach(tower, guard=True)


def test_another_pipeline_around_the_same_encoders_is_edited_too(family_pipe):
    pipe = family_pipe(SDXL)
    other = StableDiffusionXLImg2ImgPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    plain, _ = received_rows(other)
    with eraser_of(pipe).attach(pipe):
        rows, _ = received_rows(other)
        expected, _ = received_rows(pipe)
    for argument, part in expected.items():
        assert_same({argument: rows[argument]}, {argument: part})
    assert differ(rows, plain)


def test_an_encoder_with_lora_keeps_its_erasers():
    import peft

    pipe = tiny_pipeline(0)
    eraser = eraser_of(pipe)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe.text_encoder.add_adapter(config)
    tower = TextTower.from_pipeline(pipe)
    x = tower.encode(PROMPTS)
    assert not same_bits(x, TextTower.from_pipeline(tiny_pipeline(0)).encode(PROMPTS))
    with eraser.attach(pipe):
        rows, _ = received_rows(pipe)
    for i, edited in enumerate(eraser.edit(x)):
        assert same_bits(rows["encoder_hidden_states"][i], edited)


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", SDXL])
def test_an_encoder_that_is_offloaded_is_edited(name):
    from accelerate import cpu_offload

    pipe = FAMILIES[name](0)
    eraser = eraser_of(pipe)
    with eraser.attach(pipe):
        expected, _ = received_rows(pipe)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            cpu_offload(part, execution_device="cpu")
    assert next(pipe.text_encoder.parameters()).is_meta
    with eraser.attach(pipe):
        rows, _ = received_rows(pipe)
    assert_same(rows, expected)


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", SDXL])
@pytest.mark.parametrize("in_place", [True, False])
def test_an_encoder_that_is_compiled_after_attaching_is_edited(name, in_place):
    torch.compiler.reset()  # graphs are shared by all encoders of a class
    pipe = FAMILIES[name](0)
    eraser = eraser_of(pipe)
    plain, _ = received_rows(pipe)
    with eraser.attach(pipe):
        expected, _ = received_rows(pipe)
        for attribute in {tower.name for tower in towers_of(pipe)}:
            encoder = getattr(pipe, attribute)
            if in_place:
                encoder.compile(backend="eager")
            else:
                setattr(pipe, attribute, torch.compile(encoder, backend="eager"))
        rows, _ = received_rows(pipe)
        assert_same(rows, expected)
    assert differ(expected, plain)


@families
def test_an_eraser_of_several_towers_is_one_file(family_pipe, name, tmp_path):
    pipe = family_pipe(name)
    eraser = eraser_of(pipe)
    eraser.save(tmp_path / "eraser.safetensors")
    loaded = ConceptEraser.load(tmp_path / "eraser.safetensors")
    assert [part.place for part in loaded.parts] == sorted(tower.place for tower in towers_of(pipe))
    with eraser.attach(pipe):
        expected, _ = received_rows(pipe)
    with loaded.attach(pipe):
        rows, _ = received_rows(pipe)
    assert_same(rows, expected)


def test_parts_for_other_towers_are_kept_apart_and_parts_for_the_same_are_joined(family_pipe):
    pipe = family_pipe(SDXL)
    a, b = eraser_of(pipe), eraser_of(pipe, seed=50)
    first, second, third = a.parts
    joined = first | third | second | b
    assert [part.place for part in joined.parts] == [part.place for part in a.parts]
    assert [len(part.concepts) for part in joined.parts] == [2, 2, 2]
    for part, one, other in zip(joined.parts, a.parts, b.parts, strict=True):
        x = torch.randn(2, 4, part.width, generator=torch.Generator().manual_seed(0))
        assert same_bits(part.edit(x), (one | other).edit(x))
    with pytest.raises(SnceError, match="has parts for"):
        joined.edit(torch.zeros(1, 4, first.width))
    with pytest.raises(SnceError, match="different text encoders"):
        joined | replace(third, fingerprint="ffff")


def test_an_encoder_with_several_towers_is_hashed_once(family_pipe, monkeypatch):
    hashed = []
    monkeypatch.setattr(towers, "weights_fingerprint", lambda encoder: hashed.append(encoder) or "0123")
    assert [tower.fingerprint for tower in TextTower.all_of(family_pipe(SDXL))] == ["0123"] * 3
    assert len(hashed) == 2


def test_an_sae_fits_the_same_encoder_under_another_name(family_pipe):
    (tower,) = TextTower.all_of(family_pipe("CogVideoXPipeline"))
    assert tower_at("text_encoder_2.output.last_hidden_state", [tower]) is tower
    several = TextTower.all_of(family_pipe(SDXL))
    assert tower_at(several[2].place, several) is several[2]
    with pytest.raises(SnceError, match=r"for text_encoder_3\.output\.last_hidden_state; the pipeline has"):
        tower_at("text_encoder_3.output.last_hidden_state", several)


def test_an_eraser_for_a_tower_that_the_pipeline_lacks_is_refused(family_pipe):
    eraser = eraser_of(family_pipe("StableDiffusion3Pipeline"))
    with pytest.raises(SnceError, match=r"for text_encoder\.output\.text_embeds; the pipeline has"):
        eraser.attach(family_pipe(SDXL))


def rows_with(pipe, *pairs):
    """What the denoiser receives while erasers are on their targets, in the order in which they are put there."""
    with ExitStack() as attached:
        for eraser, target in pairs:
            attached.enter_context(eraser.attach(target))
        return received_rows(pipe)[0]


def test_erasers_of_one_encoder_under_two_names_are_joined_as_under_one(family_pipe):
    """CogVideoX has a T5 as its only encoder, FLUX as its second."""
    pipe = family_pipe("CogVideoXPipeline")
    a, b = eraser_of(pipe), eraser_of(pipe, seed=50)
    other = replace(a, tower="text_encoder_2")
    expected = rows_with(pipe, (a | b, pipe))
    assert differ(expected, rows_with(pipe, (b, pipe)))
    assert len((other | b).parts) == 2
    assert_same(rows_with(pipe, (other | b, pipe)), expected)
    for first, second in ((other, b), (b, other)):
        assert_same(rows_with(pipe, (first, pipe), (second, pipe)), expected)


def test_erasers_that_were_found_on_a_bare_encoder_and_on_its_pipeline_are_joined(family_pipe):
    pipe = family_pipe("FluxPipeline")
    bare = TextTower(pipe.text_encoder_2, pipe.tokenizer_2, "output.last_hidden_state")
    a, whole = eraser_of(pipe).parts[1], eraser_of(pipe, seed=50)
    found_on_bare = replace(a, tower=bare.name, pipeline=bare.pipeline)
    found_on_bare.check(bare)
    assert found_on_bare.place != whole.parts[1].place == a.place
    expected = rows_with(pipe, (a | whole, pipe))
    assert differ(expected, rows_with(pipe, (whole, pipe)))
    assert_same(rows_with(pipe, (found_on_bare, bare), (whole, pipe)), expected)
    assert_same(rows_with(pipe, (whole, pipe), (found_on_bare, bare)), expected)
