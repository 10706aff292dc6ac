"""What the pipelines make of a prompt before a text encoder sees it, and how much of that reaches the denoiser."""

from __future__ import annotations

from inspect import signature

import pytest
import torch

from tests.pipelines.denoiser import received, run
from tests.pipelines.hook_points import FAMILY_FACTS
from tests.pipelines.rows import PROMPTS, received_rows
from tests.pipelines.spy import spy


def test_qwen_image_passes_no_mask_where_nothing_is_padded(family_pipe):
    assert received(family_pipe("QwenImagePipeline"), PROMPTS[0]).keys() == {"encoder_hidden_states"}


def test_qwen_image_drops_the_34_tokens_of_its_template_before_the_prompt(family_pipe):
    pipe = family_pipe("QwenImagePipeline")
    before, after = pipe.prompt_template_encode.split("{}")
    assert pipe.prompt_template_encode_start_idx == len(pipe.tokenizer(before).input_ids) == 34
    kept = pipe.tokenizer(PROMPTS[0] + after).input_ids
    assert received(pipe, PROMPTS[0])["encoder_hidden_states"].shape[1] == len(kept)


def test_sana_drops_its_instruction_but_for_the_last_token_and_has_none_before_a_negative_prompt(family_pipe):
    pipe = family_pipe("SanaPipeline")
    instruction = "\n".join(signature(type(pipe).__call__).parameters["complex_human_instruction"].default)
    length = len(pipe.tokenizer(instruction).input_ids)
    with spy(pipe, FAMILY_FACTS["SanaPipeline"].points[0]) as seen:
        received_rows(pipe)
    assert [tokens.shape[1] for tokens in seen.tokens] == [length + 300 - 2, 300]
    kept = seen.tokens[0][0, [0, *range(-299, 0)]]
    words = pipe.tokenizer(instruction[-1] + PROMPTS[0]).input_ids  # with the begin token
    assert kept[: len(words)].tolist() == words
    assert (kept[len(words) :] == pipe.tokenizer.pad_token_id).all()


@pytest.mark.parametrize("name", ["PixArtAlphaPipeline", "PixArtSigmaPipeline", "SanaPipeline"])
def test_some_pipelines_lower_case_and_strip_the_prompt_themselves(family_pipe, name):
    pipe, point = family_pipe(name), FAMILY_FACTS[name].points[0]
    with spy(pipe, point) as seen:
        for prompt in (" A Red OWL ", "a red owl"):
            received(pipe, prompt, guidance_scale=1.0)
    assert torch.equal(*seen.tokens)
    assert pipe.tokenizer(" A Red OWL ").input_ids != pipe.tokenizer("a red owl").input_ids


def test_z_image_writes_its_template_into_the_list_of_prompts_that_it_is_given(family_pipe):
    prompts = list(PROMPTS)
    run(family_pipe("ZImagePipeline"), prompts)
    assert prompts == [f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n" for prompt in PROMPTS]


@pytest.mark.parametrize(("name", "side"), [("Flux2Pipeline", "left"), ("Flux2KleinPipeline", "right")])
def test_flux2_reads_all_positions_of_its_template_padded_on_one_side(family_pipe, name, side):
    pipe, point = family_pipe(name), FAMILY_FACTS[name].points[0]
    with spy(pipe, point) as seen:
        rows = received(pipe, PROMPTS[0])
    mask = seen.masks[0][0]
    assert mask.argmin() == 0 if side == "left" else mask[0] == 1
    assert 0 < mask.sum() < len(mask)
    assert mask.diff().abs().sum() == 1  # one edge
    assert rows["encoder_hidden_states"].shape[1] == len(mask)
