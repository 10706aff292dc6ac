"""What the block for Modular Diffusers refuses, and how it says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import FluxAutoBlocks, StableDiffusion3AutoBlocks

from snce.erase.compose import compose
from snce.errors import SnceError
from snce.integrations.modular import EraseConcept
from tests.examples import random_eraser, same_bits
from tests.integrations.modular_cases import LOUD, modular
from tests.pipelines.flux import flux
from tests.pipelines.sd3 import sd3


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


def test_a_pipeline_without_encoders_is_refused_as_nothing_tells_whose_embeddings_it_is_given(cases):
    it = cases["FLUX"]
    blocks = EraseConcept(it.eraser).insert_into(FluxAutoBlocks())
    blocks.sub_blocks.pop("text_encoder")
    given = {"prompt_embeds": torch.ones(1, 8, 40), "pooled_prompt_embeds": torch.ones(1, 24)}
    with pytest.raises(SnceError, match="no text_encoder to tell"):
        modular(it.pipe, blocks)(**given, height=16, width=16, num_inference_steps=1)
