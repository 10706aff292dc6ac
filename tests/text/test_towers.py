"""Towers: what the denoiser reads, from which weights."""

import copy
import warnings

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snce.errors import SnceError
from snce.text.fingerprint import weights_fingerprint
from snce.text.harvest import harvest
from snce.text.towers import TextTower
from tests.examples import PROMPTS, same_bits, tiny_pipeline


class Wrapped(nn.Module):
    """An encoder in the manner of older transformers versions: everything lies below `text_model`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.text_model = encoder

    def forward(self, *args, **kwargs):
        return self.text_model(*args, **kwargs)


def test_a_tower_reads_what_the_pipeline_gives_to_its_denoiser(shared_pipe, tower):
    with torch.no_grad():
        expected = shared_pipe.encode_prompt(list(PROMPTS), "cpu", 1, False)[0]
    assert same_bits(tower.encode(PROMPTS), expected)
    assert expected.shape == (len(PROMPTS), tower.positions, tower.width)


def test_reading_leaves_no_hook_and_no_gradient(tower):
    hooks = dict(tower.module._forward_hooks)
    assert not tower.encode(["a cat"]).requires_grad
    assert tower.module._forward_hooks == hooks


def test_pipelines_that_share_an_encoder_have_one_fingerprint(shared_pipe, tower):
    other = StableDiffusionImg2ImgPipeline(**shared_pipe.components, requires_safety_checker=False)
    assert TextTower.from_pipeline(other).fingerprint == tower.fingerprint
    assert TextTower.from_pipeline(other).pipeline == "StableDiffusionImg2ImgPipeline"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_fingerprint_survives_a_cast_that_keeps_half_precision(pipe, tower, dtype):
    pipe.text_encoder.to(dtype)
    assert TextTower.from_pipeline(pipe).fingerprint == tower.fingerprint


def test_the_fingerprint_of_weights_does_not_depend_on_their_layout_in_memory(pipe):
    before = weights_fingerprint(pipe.unet)
    assert weights_fingerprint(pipe.unet.to(memory_format=torch.channels_last)) == before


def test_the_fingerprint_tells_encoders_apart(pipe, tower):
    assert TextTower.from_pipeline(tiny_pipeline(1)).fingerprint != tower.fingerprint
    with torch.no_grad():
        next(pipe.text_encoder.parameters()).view(-1)[-1] += 0.01
    assert TextTower.from_pipeline(pipe).fingerprint != tower.fingerprint


def test_an_eraser_fits_whichever_way_the_transformers_version_nests_the_encoder(pipe, tower):
    wrapped = Wrapped(copy.deepcopy(pipe.text_encoder))
    for encoder in (wrapped, pipe.text_encoder):
        for module in ("final_layer_norm", "text_model.final_layer_norm"):
            other = TextTower(encoder, pipe.tokenizer, module)
            assert other.path == tower.path == "final_layer_norm"
            assert other.fingerprint == tower.fingerprint
            assert same_bits(other.encode(PROMPTS), tower.encode(PROMPTS))


def test_a_module_that_is_not_there_or_does_not_run_is_named(pipe):
    with pytest.raises(SnceError, match=r"CLIPTextModel has no module 'last_norm'.*encoder"):
        TextTower(pipe.text_encoder, pipe.tokenizer, "last_norm")
    pipe.text_encoder.idle = nn.Identity()
    with pytest.raises(SnceError, match="'idle' of CLIPTextModel did not run"):
        TextTower(pipe.text_encoder, pipe.tokenizer, "idle").encode(["a"])


def test_a_tokenizer_that_knows_no_length_is_refused_with_what_to_do(pipe):
    pipe.tokenizer.model_max_length = int(1e30)  # as transformers has it where the tokenizer's files say nothing
    bare = TextTower(pipe.text_encoder, pipe.tokenizer, "final_layer_norm")
    with pytest.raises(SnceError, match=r"set tokenizer\.model_max_length"):
        bare.encode(["a cat"])
    pipe.tokenizer.model_max_length = 12
    assert bare.encode(["a cat"]).shape[1] == 12


def test_a_pipeline_that_is_not_in_the_table_is_named():
    with pytest.raises(SnceError, match=r"object is not a known pipeline .*StableDiffusionPipeline"):
        TextTower.from_pipeline(object())


@given(st.lists(st.text("ab é🍎", min_size=1, max_size=20), min_size=1, max_size=4))
def test_a_warning_names_just_the_prompts_that_are_cut(tower, prompts):
    cut = [p for p in prompts if len(tower.tokenizer(p, verbose=False).input_ids) > tower.positions]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokens = tower.tokenize(prompts)
    assert tokens.ids.shape == (len(prompts), tower.positions)
    assert len(caught) == bool(cut)
    if cut:
        message = str(caught[0].message)
        assert all(repr(p[:60]) in message for p in cut[:3])
        assert f"{tower.positions} tokens" in message


@pytest.mark.parametrize("cached", [True, False])
def test_an_encoder_whose_weights_accelerate_keeps_elsewhere_is_read_as_before(pipe, tmp_path, cached):
    from accelerate import cpu_offload

    cache = tmp_path if cached else None
    before = TextTower(pipe.text_encoder, pipe.tokenizer, "final_layer_norm")
    expected, data = before.encode(PROMPTS), harvest(before, PROMPTS)
    cpu_offload(pipe.text_encoder, execution_device="cpu")
    assert next(pipe.text_encoder.parameters()).is_meta
    tower = TextTower(pipe.text_encoder, pipe.tokenizer, "final_layer_norm")
    assert (tower.width, tower.begin) == (before.width, before.begin)
    assert same_bits(tower.encode(PROMPTS), expected)
    found = harvest(tower, PROMPTS, cache)
    assert same_bits(found.x, data.x.half() if cached else data.x)
    assert torch.equal(found.kinds, data.kinds)
