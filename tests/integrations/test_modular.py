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

from snce.erase.eraser import compose
from snce.errors import SnceError
from snce.integrations.modular import EraseConcept
from snce.integrations.places import places_of
from tests.examples import random_eraser, same_bits
from tests.pipelines.flux import flux
from tests.pipelines.rows import PROMPTS
from tests.pipelines.sd3 import sd3
from tests.pipelines.sdxl import WIDTHS, sdxl
from tests.pipelines.test_erasing import eraser_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModularPipelineBlocks

    from snce.erase.eraser import ConceptEraser

LOUD, SILENT = PROMPTS  # all parts of the erasers fire on one, and none on the other
POOLED = "pooled_prompt_embeds"
(CLIP_L, CLIP_G), (POOLED_G,) = places_of("StableDiffusionXL")
(T5,), (POOLED_L,) = places_of("Flux")


def modular(pipe: DiffusionPipeline, blocks: ModularPipelineBlocks) -> Any:
    """The blocks as a pipeline of the components of `pipe`."""
    made = blocks.init_pipeline()
    made.update_components(**{k: v for k, v in pipe.components.items() if k in made._component_specs and v is not None})
    made.set_progress_bar_config(disable=True)
    return made


class Case(NamedTuple):
    """A pipeline with an eraser."""

    pipe: Any
    blocks: type
    eraser: ConceptEraser
    where: dict[str, dict[str, slice]]
    """By name of the embeddings: the numbers of each part in them, by the part's place."""
    options: dict[str, Any]
    """Of its call."""

    def run(self, prompt: Any, *blocks: EraseConcept, **options: Any) -> Any:
        """The state after drawing with these blocks inserted."""
        chosen = self.blocks()
        for block in blocks:
            block.insert_into(chosen)
        draw = modular(self.pipe, chosen)
        return draw(prompt=prompt, height=16, width=16, num_inference_steps=2, output_type="np",
                    generator=torch.Generator().manual_seed(0), **self.options, **options)  # fmt: skip

    def only(self, place: str) -> Case:
        """With one part of the eraser."""
        (part,) = (part for part in self.eraser.parts if part.place == place)
        where = {name: {place: places[place]} for name, places in self.where.items() if place in places}
        return self._replace(eraser=part, where=where)

    def edited(self, state: Any, prefix: str = "") -> dict[str, torch.Tensor]:
        """All embeddings of the state, with each part of the eraser applied to its numbers."""
        found = {prefix + name: getattr(state, prefix + name).clone() for name in ("prompt_embeds", POOLED)}
        parts = {part.place: part for part in self.eraser.parts}
        for name, places in self.where.items():
            x = found[prefix + name]
            for place, numbers in places.items():
                mine = x[..., numbers].reshape(len(x), -1, parts[place].width)
                x[..., numbers] = parts[place].edit(mine).reshape(x[..., numbers].shape)
        return found


PARTS = {
    "SDXL, CLIP-L": CLIP_L,
    "SDXL, CLIP-G": CLIP_G,
    "SDXL, pooled": POOLED_G,
    "FLUX, T5": T5,
    "FLUX, pooled": POOLED_L,
}


@pytest.fixture(scope="module")
def cases():
    xl, one = sdxl(), flux()
    sides = {CLIP_L: slice(0, WIDTHS[0]), CLIP_G: slice(WIDTHS[0], sum(WIDTHS))}
    in_xl = {"prompt_embeds": sides, POOLED: {POOLED_G: slice(None)}}
    in_flux = {"prompt_embeds": {T5: slice(None)}, POOLED: {POOLED_L: slice(None)}}
    whole = {
        "SDXL": Case(xl, StableDiffusionXLAutoBlocks, eraser_of(xl), in_xl, {}),
        "FLUX": Case(one, FluxAutoBlocks, eraser_of(one), in_flux, {"max_sequence_length": 64}),
    }
    return whole | {name: whole[name.partition(",")[0]].only(place) for name, place in PARTS.items()}


@pytest.fixture(params=["SDXL", "FLUX", *PARTS])
def it(request, cases) -> Case:
    return cases[request.param]


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

    def without_encoders(**block_options):
        blocks = EraseConcept(it.eraser, **block_options).insert_into(FluxAutoBlocks())
        blocks.sub_blocks.pop("text_encoder")
        return modular(it.pipe, blocks)(**given, **options)

    after = without_encoders(allow_mismatch=True)
    for name, expected in it.edited(encoded).items():
        assert same_bits(getattr(after, name), expected)
    with pytest.raises(SnceError, match="no text_encoder to tell"):
        without_encoders()


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


# -- what is refused -------------------------------------------------------------------------------------------------


def test_an_eraser_of_another_encoder_is_refused_unless_a_mismatch_is_allowed(it):
    strangers = compose([replace(part, fingerprint="0" * 16) for part in it.eraser.parts])
    with pytest.raises(SnceError, match="was made for a text encoder with fingerprint 0000"):
        it.run(LOUD, EraseConcept(strangers))
    allowed = it.run(LOUD, EraseConcept(strangers, allow_mismatch=True))
    for name, expected in it.edited(it.run(LOUD)).items():
        assert same_bits(getattr(allowed, name), expected)


def test_an_eraser_of_the_same_weights_read_elsewhere_is_refused(cases):
    it = cases["SDXL, CLIP-L"]  # CLIP-L of Stable Diffusion 1.x is that of SDXL, but read after the final norm
    with pytest.raises(
        SnceError, match=r"is for text_encoder\.final_layer_norm, and .* of text_encoder\.output\.hidden"
    ):
        it.run(LOUD, EraseConcept(replace(it.eraser, module="final_layer_norm")))


def test_an_encoder_that_is_exchanged_is_checked_again(cases):
    it = cases["FLUX"]
    draw = modular(it.pipe, EraseConcept(it.eraser).insert_into(FluxAutoBlocks()))
    options = {"prompt": LOUD, "height": 16, "width": 16, "num_inference_steps": 1, "output_type": "np"}
    draw(**options)
    draw.update_components(text_encoder_2=flux(1).text_encoder_2)
    with pytest.raises(SnceError, match="was made for a text encoder"):
        draw(**options)


def test_a_part_for_what_is_not_in_the_embeddings_is_refused_by_name(cases):
    it = cases["FLUX"]
    with pytest.raises(
        SnceError, match=r"is for text_encoder\.output\.hidden_states\[-2\], and the embeddings of Flux"
    ):
        it.run(LOUD, EraseConcept(it.eraser | cases["SDXL, CLIP-L"].eraser))


def test_another_width_is_refused_even_if_a_mismatch_is_allowed(cases):
    it = cases["SDXL, CLIP-L"]
    wide = replace(cases["SDXL, CLIP-G"].eraser, tower="text_encoder")
    with pytest.raises(SnceError, match=r"width 48 \(text_encoder\..*do not fit prompt_embeds of width 80; load"):
        it.run(LOUD, EraseConcept(wide, allow_mismatch=True))


def test_clip_skip_is_refused(cases):
    it = cases["SDXL, CLIP-L"]
    with pytest.raises(SnceError, match="clip_skip takes another"):
        it.run(LOUD, EraseConcept(it.eraser), clip_skip=1)


def test_pipelines_that_rework_their_embeddings_are_refused_with_the_way_out():
    pipe = sd3()
    blocks = EraseConcept(random_eraser(0)).insert_into(StableDiffusion3AutoBlocks())
    with pytest.raises(SnceError, match=r"StableDiffusion3ModularPipeline is none of those.*eraser\.attach\(pipe\)"):
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
