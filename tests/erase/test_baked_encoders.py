"""Baked encoders, edited at a module or in fields of what they return: every bit of every output, weights that the
plain class refuses, numbers that no cast moves."""

import copy

import pytest
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from snce.erase import baked
from snce.erase.bake import Edits, bake_encoder
from snce.erase.encoders import ENCODERS
from snce.erase.eraser import ConceptEraser
from snce.text.towers import TextTower
from tests.examples import random_neurons, same_bits

CLIP = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
        "max_position_embeddings": 12, "projection_dim": 16, "bos_token_id": 58, "eos_token_id": 59}  # fmt: skip
T5 = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4}
CASES = [
    (CLIPTextModel, CLIPTextConfig, CLIP, "final_layer_norm"),
    (CLIPTextModel, CLIPTextConfig, CLIP, "encoder.layers.1"),
    (CLIPTextModelWithProjection, CLIPTextConfig, CLIP, "final_layer_norm"),
    (CLIPTextModelWithProjection, CLIPTextConfig, CLIP, "encoder.layers.1"),
    (T5EncoderModel, T5Config, T5, "encoder.final_layer_norm"),
    (UMT5EncoderModel, UMT5Config, T5, "encoder.block.1"),
]


def tensors(output):
    return [t for value in output.to_tuple() for t in (value if isinstance(value, tuple) else (value,))]


def tokens():
    tokens = torch.randint(3, 57, (6, 12), generator=torch.Generator().manual_seed(0))
    tokens[:, -1] = 59
    return tokens


def encoder(kind, config, sizes, dtype=torch.float32):
    torch.manual_seed(0)
    plain = kind(config(**sizes)).eval().requires_grad_(False).to(dtype)
    for weight in plain.parameters():  # the usual initial weights are so small that texts hardly differ
        weight.add_(0.2 * torch.randn_like(weight))
    return plain


def eraser_at(tower, width=32, begin=0, seed=0):
    neurons = random_neurons(seed, n=3, d=width)
    return ConceptEraser(neurons, ("a", "b", "c"), tower.fingerprint, "text_encoder", tower.path, begin=begin)


def test_every_class_has_its_counterpart():
    found = {name.removeprefix("Erased") for name in vars(baked) if name.startswith("Erased")}
    assert found == set(ENCODERS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "config", "sizes", "module"), CASES)
def test_a_baked_encoder_is_the_encoder_with_the_eraser_attached(tmp_path, kind, config, sizes, module, dtype):
    plain = encoder(kind, config, sizes, dtype)
    tower = TextTower(plain, None, module)
    eraser = eraser_at(tower, begin=1 if sizes is CLIP else 0)
    with torch.no_grad():
        unedited = tensors(plain(tokens(), output_hidden_states=True))
        with eraser.attach(tower):
            expected = tensors(plain(tokens(), output_hidden_states=True))
    assert not all(same_bits(a, b) for a, b in zip(unedited, expected, strict=True))
    before = copy.deepcopy(plain.state_dict())
    bake_encoder(Edits("text_encoder", plain, (eraser,), (tower,))).save_pretrained(tmp_path)
    assert all(same_bits(before[key], tensor) for key, tensor in plain.state_dict().items())
    loaded = getattr(baked, f"Erased{kind.__name__}").from_pretrained(tmp_path, dtype="auto").eval()
    with torch.no_grad():
        found = tensors(loaded(tokens(), output_hidden_states=True))
    assert all(same_bits(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(RuntimeError, match="mismatch"):
        kind.from_pretrained(tmp_path)


@pytest.fixture(params=[torch.float32, torch.float16], ids=str)
def in_fields(request):
    """A baked encoder, edited in two fields of what it returns, with what the two attached erasers make of it."""
    plain = encoder(CLIPTextModelWithProjection, CLIPTextConfig, CLIP, request.param)
    towers = tuple(TextTower(plain, Words(), place) for place in ("output.hidden_states[-2]", "output.text_embeds"))
    erasers = eraser_at(towers[0], begin=1), eraser_at(towers[1], width=16, seed=1)
    with torch.no_grad(), erasers[0].attach(towers[0]), erasers[1].attach(towers[1]):
        expected = plain(tokens(), output_hidden_states=True)
    return bake_encoder(Edits("text_encoder", plain, erasers, towers)), expected, plain


class Words:
    """As much of a tokenizer as a bare tower asks for its template: all prompts begin with token 58."""

    model_max_length, eos_token_id = 12, 59

    def __call__(self, prompts, **_options):
        rows = [[58, *(3 + c % 50 for c in prompt.encode())][:11] for prompt in prompts]
        self.input_ids = torch.tensor([row + [59] * (12 - len(row)) for row in rows])
        return self


@torch.no_grad()
def test_fields_are_edited_and_what_is_not_asked_for_is_no_matter(in_fields):
    erased, expected, plain = in_fields
    unedited = plain(tokens(), output_hidden_states=True)
    found = erased(tokens(), output_hidden_states=True)
    for name in ("text_embeds", "last_hidden_state"):
        assert same_bits(found[name], expected[name])
    assert same_bits(found.hidden_states[-2], expected.hidden_states[-2])
    assert not same_bits(found.hidden_states[-2], unedited.hidden_states[-2])
    assert not same_bits(found.text_embeds, unedited.text_embeds)
    assert same_bits(erased(tokens()).text_embeds, expected.text_embeds)
    assert "hidden_states" not in erased(tokens())


@torch.no_grad()
def test_a_tuple_is_edited_too(in_fields):
    erased, expected, _ = in_fields
    text_embeds, _, hidden_states = erased(input_ids=tokens(), output_hidden_states=True, return_dict=False)
    assert same_bits(text_embeds, expected.text_embeds)
    assert same_bits(hidden_states[-2], expected.hidden_states[-2])


@torch.no_grad()
def test_hidden_states_that_are_not_edited_are_not_handed_out(in_fields):
    erased, _, _ = in_fields
    states = erased(tokens(), output_hidden_states=True).hidden_states
    assert [state is None for state in states] == [True, True, False, True]


@torch.no_grad()
def test_the_template_is_told_from_the_prompt_by_its_tokens(in_fields):
    """Or a prompt that is put into none would keep as many of its first tokens as a template has."""
    erased, _, plain = in_fields
    for ids in (tokens(), tokens().index_fill(1, torch.tensor(0), 58)):
        changed = (
            erased(ids, output_hidden_states=True).hidden_states[-2]
            != plain(ids, output_hidden_states=True).hidden_states[-2]
        )
        assert changed[:, 0].any() == (ids[0, 0] != 58)
        assert changed[:, 1:].any()


def test_casts_leave_the_numbers_of_the_edit_as_they_are(in_fields):
    erased, _, _ = in_fields
    before = copy.deepcopy(erased.snce.state_dict())
    erased.to(torch.bfloat16).double().half()
    assert all(same_bits(before[key], tensor) for key, tensor in erased.snce.state_dict().items())


@torch.no_grad()
def test_the_numbers_of_the_edit_are_not_halved_by_autocast(in_fields):
    erased, _, _ = in_fields
    for neurons in erased.snce:
        x = torch.randn(4, 12, neurons.encoder.shape[-1], generator=torch.Generator().manual_seed(0))
        outside = neurons(x, 0)
        assert not same_bits(x, outside)
        with torch.autocast("cpu", torch.bfloat16):
            assert same_bits(neurons(x, 0), outside)


def test_gradients_flow_through_fields(in_fields):
    erased, _, _ = in_fields
    erased.float().requires_grad_(True)
    erased(tokens()).text_embeds.sum().backward()
    assert erased.get_input_embeddings().weight.grad.abs().sum() > 0


@torch.no_grad()
def test_a_copy_is_edited(in_fields):
    erased, expected, _ = in_fields
    assert same_bits(copy.deepcopy(erased)(tokens()).text_embeds, expected.text_embeds)


@torch.no_grad()
def test_it_works_where_accelerate_keeps_the_weights_elsewhere(in_fields):
    from accelerate import cpu_offload

    erased, expected, _ = in_fields
    cpu_offload(erased, torch.device("cpu"))
    found = erased(tokens(), output_hidden_states=True)
    assert same_bits(found.text_embeds, expected.text_embeds)
    assert same_bits(found.hidden_states[-2], expected.hidden_states[-2])


def test_without_token_ids_it_does_not_guess(in_fields):
    erased, _, _ = in_fields
    with pytest.raises(ValueError, match="input_ids"):
        erased.snce[0].edit_field({"hidden_states": [torch.zeros(1, 4, 32)] * 2}, None, None)
