"""The block for Modular Diffusers, in real modular pipelines of SDXL and FLUX with random weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from diffusers import (
    FluxAutoBlocks,
    FluxKontextAutoBlocks,
    StableDiffusion3AutoBlocks,
    StableDiffusionXLAutoBlocks,
)

from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.integrations.modular import EraseConcept
from snce.text.towers import TextTower
from tests.examples import PROMPTS, random_neurons, same_bits
from tests.pipelines.flux import T5_WIDTH, flux
from tests.pipelines.sd3 import sd3
from tests.pipelines.sdxl import WIDTHS, sdxl

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModularPipelineBlocks


def modular(pipe: DiffusionPipeline, blocks: ModularPipelineBlocks) -> Any:
    """The blocks as a pipeline of the components of `pipe`."""
    made = blocks.init_pipeline()
    made.update_components(**{k: v for k, v in pipe.components.items() if k in made._component_specs and v is not None})
    made.set_progress_bar_config(disable=True)
    return made


class Case(NamedTuple):
    """A pipeline with an eraser of one of its text encoders, and prompts on which it fires and does not."""

    pipe: Any
    blocks: type
    tower: TextTower
    eraser: ConceptEraser
    loud: list[str]
    silent: list[str]
    where: slice
    """Of the encoder's numbers in `prompt_embeds`."""

    def run(self, prompt: Any, *blocks: EraseConcept, **options: Any) -> Any:
        """The state after drawing with these blocks inserted."""
        chosen = self.blocks()
        for block in blocks:
            block.insert_into(chosen)
        draw = modular(self.pipe, chosen)
        return draw(prompt=prompt, height=16, width=16, num_inference_steps=2, output_type="np",
                    generator=torch.Generator().manual_seed(0), **options)  # fmt: skip


def case(pipe: Any, blocks: type, name: str, module: str, where: slice, begin: int) -> Case:
    tokenizer = pipe.tokenizer_2 if name.endswith("2") else pipe.tokenizer
    tower = TextTower(getattr(pipe, name), tokenizer, module, name, type(pipe).__name__)
    neurons = random_neurons(1, n=1, d=tower.width, whole_prompt=True)
    eraser = ConceptEraser(neurons, ("pistol",), tower.fingerprint, name, tower.path, tower.pipeline, begin)
    heights = eraser.activations(list(PROMPTS), tower)[:, 0]
    bar = heights.sort().values[3:5].mean()
    loud = [p for p, height in zip(PROMPTS, heights, strict=True) if height > bar]
    silent = [p for p in PROMPTS if p not in loud]
    assert bar > 0
    assert len(loud) == len(silent) == 4
    return Case(
        pipe, blocks, tower, replace(eraser, neurons=neurons._replace(threshold=bar[None])), loud, silent, where
    )


@pytest.fixture(scope="module")
def cases():
    xl, one = sdxl(), flux()
    left, right = slice(0, WIDTHS[0]), slice(WIDTHS[0], sum(WIDTHS))
    return {
        "SDXL, CLIP-L": case(xl, StableDiffusionXLAutoBlocks, "text_encoder", "encoder.layers.1", left, 1),
        "SDXL, CLIP-G": case(xl, StableDiffusionXLAutoBlocks, "text_encoder_2", "encoder.layers.2", right, 1),
        "FLUX, T5": case(one, FluxAutoBlocks, "text_encoder_2", "encoder.final_layer_norm", slice(0, T5_WIDTH), 0),
    }


@pytest.fixture(params=["SDXL, CLIP-L", "SDXL, CLIP-G", "FLUX, T5"])
def it(request, cases) -> Case:
    return cases[request.param]


def picture(state) -> bytes:
    return b"".join(image.tobytes() for image in state.images)


def test_a_silent_prompt_keeps_its_bits_and_its_picture(it):
    before, after = it.run(it.silent[0]), it.run(it.silent[0], EraseConcept(it.eraser))
    assert same_bits(after.prompt_embeds, before.prompt_embeds)
    assert picture(after) == picture(before)


def test_a_loud_prompt_is_edited_as_eraser_edit_edits_it_and_the_other_encoder_is_left_alone(it):
    before, after = it.run(it.loud[0]), it.run(it.loud[0], EraseConcept(it.eraser))
    expected = before.prompt_embeds.clone()
    expected[..., it.where] = it.eraser.edit(expected[..., it.where])
    assert not torch.equal(expected, before.prompt_embeds)
    assert same_bits(after.prompt_embeds, expected)
    assert same_bits(after.pooled_prompt_embeds, before.pooled_prompt_embeds)
    assert picture(after) != picture(before)


def test_a_batch_is_edited_prompt_by_prompt(it):
    prompts = [it.loud[0], it.silent[0]]
    before, after = it.run(prompts), it.run(prompts, EraseConcept(it.eraser))
    changed = (before.prompt_embeds != after.prompt_embeds).flatten(1).any(1)
    assert changed.tolist() == [True, False]


@pytest.mark.parametrize("name", ["SDXL, CLIP-L", "FLUX, T5"])
def test_it_draws_what_the_eraser_draws_when_it_is_attached_to_the_encoder(name, cases):
    it = cases[name]
    with it.eraser.attach(it.tower):
        attached = it.run(it.loud[0])
    assert picture(it.run(it.loud[0], EraseConcept(it.eraser))) == picture(attached)


def test_negative_prompts_are_edited_only_on_request(cases):
    it = cases["SDXL, CLIP-L"]
    before = it.run(it.silent[0], negative_prompt=it.loud[0]).negative_prompt_embeds
    kept = it.run(it.silent[0], EraseConcept(it.eraser), negative_prompt=it.loud[0]).negative_prompt_embeds
    assert same_bits(kept, before)
    asked = EraseConcept(it.eraser, edit_negative=True)
    edited = it.run(it.silent[0], asked, negative_prompt=it.loud[0]).negative_prompt_embeds
    assert same_bits(edited[..., it.where], it.eraser.edit(before[..., it.where]))
    assert not torch.equal(edited, before)


def test_zeros_that_stand_for_no_negative_prompt_stay_zeros(cases):
    it = cases["SDXL, CLIP-L"]
    neurons = it.eraser.neurons
    fires_on_zeros = replace(it.eraser, neurons=neurons._replace(bias=neurons.threshold + 1))
    block = EraseConcept(fires_on_zeros, edit_negative=True)
    assert not it.run(it.silent[0], block).negative_prompt_embeds.any()


def test_a_pipeline_without_negative_prompts_has_none_to_edit(cases):
    it = cases["FLUX, T5"]
    state = it.run(it.loud[0], EraseConcept(it.eraser, edit_negative=True))
    assert same_bits(state.prompt_embeds, it.run(it.loud[0], EraseConcept(it.eraser)).prompt_embeds)


def test_embeddings_that_are_handed_over_are_edited_too(cases):
    it = cases["FLUX, T5"]
    encoded = it.run(it.loud[0])
    given = {"prompt_embeds": encoded.prompt_embeds, "pooled_prompt_embeds": encoded.pooled_prompt_embeds}
    options = {"height": 16, "width": 16, "num_inference_steps": 1, "output_type": "np"}

    def without_encoders(**block_options):
        blocks = EraseConcept(it.eraser, **block_options).insert_into(FluxAutoBlocks())
        blocks.sub_blocks.pop("text_encoder")
        return modular(it.pipe, blocks)(**given, **options)

    assert same_bits(without_encoders(allow_mismatch=True).prompt_embeds, it.eraser.edit(encoded.prompt_embeds))
    with pytest.raises(SnceError, match="no text_encoder_2 to tell"):
        without_encoders()


def test_kontext_takes_the_block_as_flux_does(cases):
    it = cases["FLUX, T5"]._replace(blocks=FluxKontextAutoBlocks)
    before, after = it.run(it.loud[0]), it.run(it.loud[0], EraseConcept(it.eraser))
    assert same_bits(after.prompt_embeds, it.eraser.edit(before.prompt_embeds))
    assert not torch.equal(after.prompt_embeds, before.prompt_embeds)


def test_the_block_says_what_it_takes_gives_and_erases(cases):
    block = EraseConcept(cases["FLUX, T5"].eraser)
    assert block.input_names == block.intermediate_output_names == ["prompt_embeds"]
    assert "pistol" in block.doc
    both = EraseConcept(cases["FLUX, T5"].eraser, edit_negative=True)
    assert both.input_names == both.intermediate_output_names == ["prompt_embeds", "negative_prompt_embeds"]
    assert both.required_inputs == ["prompt_embeds"]
    assert "erase_concept" in repr(block.insert_into(FluxAutoBlocks()))


# -- what is refused -------------------------------------------------------------------------------------------------


def test_an_eraser_of_another_encoder_is_refused_unless_a_mismatch_is_allowed(it):
    stranger = replace(it.eraser, fingerprint="0" * 16)
    with pytest.raises(SnceError, match="was made for a text encoder with fingerprint 0000"):
        it.run(it.loud[0], EraseConcept(stranger))
    allowed = it.run(it.loud[0], EraseConcept(stranger, allow_mismatch=True))
    assert same_bits(allowed.prompt_embeds, it.run(it.loud[0], EraseConcept(it.eraser)).prompt_embeds)


def test_an_eraser_of_the_same_weights_read_elsewhere_is_refused(cases):
    it = cases["SDXL, CLIP-L"]  # CLIP-L of Stable Diffusion 1.x is that of SDXL, but read after the final norm
    with pytest.raises(SnceError, match=r"read at final_layer_norm.*read at encoder\.layers\.1"):
        it.run(it.loud[0], EraseConcept(replace(it.eraser, module="final_layer_norm")))


def test_an_encoder_that_is_exchanged_is_checked_again(cases):
    it = cases["FLUX, T5"]
    draw = modular(it.pipe, EraseConcept(it.eraser).insert_into(FluxAutoBlocks()))
    options = {"prompt": it.loud[0], "height": 16, "width": 16, "num_inference_steps": 1, "output_type": "np"}
    draw(**options)
    draw.update_components(text_encoder_2=flux(1).text_encoder_2)
    with pytest.raises(SnceError, match="was made for a text encoder"):
        draw(**options)


def test_an_encoder_that_is_not_in_the_embeddings_is_refused_by_name(cases):
    it = cases["FLUX, T5"]
    with pytest.raises(SnceError, match=r"is for text_encoder, and the prompt_embeds of Flux.* are of text_encoder_2"):
        it.run(it.loud[0], EraseConcept(replace(it.eraser, tower="text_encoder")))


def test_another_width_is_refused_even_if_a_mismatch_is_allowed(cases):
    it = cases["SDXL, CLIP-L"]
    wide = replace(cases["SDXL, CLIP-G"].eraser, tower="text_encoder")
    with pytest.raises(SnceError, match="width 48, and those of text_encoder have width 32"):
        it.run(it.loud[0], EraseConcept(wide, allow_mismatch=True))


def test_clip_skip_is_refused(cases):
    it = cases["SDXL, CLIP-L"]
    with pytest.raises(SnceError, match="clip_skip takes another"):
        it.run(it.loud[0], EraseConcept(it.eraser), clip_skip=1)


def test_pipelines_that_rework_their_embeddings_are_refused_with_the_way_out():
    pipe = sd3()
    blocks = EraseConcept(ConceptEraser(random_neurons(0), ("a", "b"), "")).insert_into(StableDiffusion3AutoBlocks())
    with pytest.raises(SnceError, match=r"StableDiffusion3ModularPipeline is none of those.*eraser\.attach\(TextTower"):
        modular(pipe, blocks)(prompt="a cat")


def test_a_second_eraser_is_refused_and_so_are_blocks_without_a_text_encoder(cases):
    it = cases["FLUX, T5"]
    blocks = EraseConcept(it.eraser).insert_into(FluxAutoBlocks())
    with pytest.raises(SnceError, match=r"join erasers, and insert EraseConcept\(a \| b\)"):
        EraseConcept(it.eraser).insert_into(blocks)
    with pytest.raises(SnceError, match="no sub-block 'text_encoder'"):
        EraseConcept(it.eraser).insert_into(FluxAutoBlocks().sub_blocks["denoise"])


def test_importing_the_package_does_not_load_the_modular_classes():
    code = "import snce, snce.integrations, sys; print(any('modular' in name for name in sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
