"""The block for Modular Diffusers, in real modular pipelines of SDXL and FLUX with random weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import FluxAutoBlocks, FluxKontextAutoBlocks, StableDiffusion3AutoBlocks

from snce.erase.compose import compose
from snce.integrations.modular import EraseConcept
from tests.examples import same_bits
from tests.integrations.modular_cases import LOUD, SILENT, modular
from tests.pipelines.rows import PROMPTS
from tests.pipelines.sd3 import sd3
from tests.pipelines.test_erasing import eraser_of


def picture(state) -> bytes:
    return b"".join(image.tobytes() for image in state.images)


def test_a_silent_prompt_keeps_its_bits_and_its_picture(it):
    before, after = it.run(SILENT), it.run(SILENT, EraseConcept(it.eraser))
    assert same_bits(after.prompt_embeds, before.prompt_embeds)
    assert same_bits(after.pooled_prompt_embeds, before.pooled_prompt_embeds)
    assert picture(after) == picture(before)


def test_a_loud_prompt_is_edited_part_by_part_and_all_else_is_left_alone(it):
    before, after = it.run(LOUD), it.run(LOUD, EraseConcept(it.eraser))
    for name, expected in it.edited(before).items():
        assert same_bits(getattr(after, name), expected)
        assert torch.equal(expected, getattr(before, name)) != (name in it.where)
    assert picture(after) != picture(before)


def test_a_batch_is_edited_prompt_by_prompt(it):
    prompts = [LOUD, SILENT]
    before, after = it.run(prompts), it.run(prompts, EraseConcept(it.eraser))
    for name in it.where:
        changed = (getattr(before, name) != getattr(after, name)).flatten(1).any(1)
        assert changed.tolist() == [True, False]


@pytest.mark.parametrize("name", ["SDXL", "FLUX"])
def test_it_draws_what_the_eraser_draws_when_it_is_attached_to_the_encoders(name, cases):
    it = cases[name]
    with it.eraser.attach(it.pipe):
        attached = it.run(LOUD)
    assert picture(it.run(LOUD, EraseConcept(it.eraser))) == picture(attached)


def test_negative_prompts_are_edited_only_on_request(cases):
    it = cases["SDXL"]
    before = it.run(SILENT, negative_prompt=LOUD)
    kept = it.run(SILENT, EraseConcept(it.eraser), negative_prompt=LOUD)
    asked = it.run(SILENT, EraseConcept(it.eraser, edit_negative=True), negative_prompt=LOUD)
    for name, expected in it.edited(before, "negative_").items():
        assert same_bits(getattr(kept, name), getattr(before, name))
        assert same_bits(getattr(asked, name), expected)
        assert not torch.equal(expected, getattr(before, name))


def test_zeros_that_stand_for_no_negative_prompt_stay_zeros(cases):
    it = cases["SDXL"]
    fires_on_zeros = compose(
        [replace(p, neurons=p.neurons._replace(bias=p.neurons.threshold + 1)) for p in it.eraser.parts]
    )
    after = it.run(SILENT, EraseConcept(fires_on_zeros, edit_negative=True))
    assert not after.negative_prompt_embeds.any()
    assert not after.negative_pooled_prompt_embeds.any()


def test_a_pipeline_without_negative_prompts_has_none_to_edit(cases):
    it = cases["FLUX"]
    state = it.run(LOUD, EraseConcept(it.eraser, edit_negative=True))
    assert same_bits(state.prompt_embeds, it.run(LOUD, EraseConcept(it.eraser)).prompt_embeds)


def test_embeddings_that_are_handed_over_are_edited_too(cases):
    it = cases["FLUX"]
    encoded = it.run(LOUD)
    given = {"prompt_embeds": encoded.prompt_embeds, "pooled_prompt_embeds": encoded.pooled_prompt_embeds}
    options = {"height": 16, "width": 16, "num_inference_steps": 1, "output_type": "np"}

    blocks = EraseConcept(it.eraser, allow_mismatch=True).insert_into(FluxAutoBlocks())
    blocks.sub_blocks.pop("text_encoder")
    after = modular(it.pipe, blocks)(**given, **options)
    for name, expected in it.edited(encoded).items():
        assert same_bits(getattr(after, name), expected)


def test_kontext_takes_the_block_as_flux_does(cases):
    it = cases["FLUX"]._replace(blocks=FluxKontextAutoBlocks)
    before, after = it.run(LOUD), it.run(LOUD, EraseConcept(it.eraser))
    for name, expected in it.edited(before).items():
        assert same_bits(getattr(after, name), expected)
        assert not torch.equal(expected, getattr(before, name))


def test_the_block_says_what_it_takes_gives_and_erases(cases):
    block = EraseConcept(cases["FLUX, T5"].eraser)
    assert block.input_names == block.intermediate_output_names == ["prompt_embeds"]
    assert "concept" in block.doc
    both = EraseConcept(cases["FLUX"].eraser, edit_negative=True)
    names = ["prompt_embeds", "pooled_prompt_embeds"]
    assert sorted(both.required_inputs) == sorted(names)
    negative = [f"negative_{name}" for name in names]
    assert sorted(both.input_names) == sorted(both.intermediate_output_names) == sorted(names + negative)
    assert "erase_concept" in repr(block.insert_into(FluxAutoBlocks()))


def test_other_pipelines_are_edited_where_the_eraser_is_attached_to_one_of_the_same_components():
    pipe = sd3()
    eraser, draw = eraser_of(pipe), modular(pipe, StableDiffusion3AutoBlocks())

    def embeddings(prompt):
        return draw(prompt=prompt, height=16, width=16, num_inference_steps=1, output_type="np",
                    max_sequence_length=64, output=["prompt_embeds", "pooled_prompt_embeds"])  # fmt: skip

    for i in (0, 1):
        before = embeddings(PROMPTS[i])
        with eraser.attach(pipe):
            after = embeddings(PROMPTS[i])
        for name in before:
            assert same_bits(before[name], after[name]) == (i == 1)


def test_importing_the_package_does_not_load_the_modular_classes():
    code = "import snce, snce.integrations, sys; print(any('modular' in name for name in sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
