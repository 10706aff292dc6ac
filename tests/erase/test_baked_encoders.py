"""Every encoder class that can be baked, edited at its last norm or at a layer: every bit of every output."""

import copy

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from snce.erase import baked
from snce.erase.bake import ERASED, bake_encoder
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
]


def tensors(output):
    return [t for value in output.to_tuple() for t in (value if isinstance(value, tuple) else (value,))]


def test_every_class_that_can_be_baked_is_here():
    assert {kind.__name__ for kind, *_ in CASES} == set(ERASED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "config", "sizes", "module"), CASES)
def test_a_baked_encoder_is_the_encoder_with_the_eraser_attached(tmp_path, kind, config, sizes, module, dtype):
    torch.manual_seed(0)
    plain = kind(config(**sizes)).eval().to(dtype)
    for weight in plain.parameters():  # the usual initial weights are so small that texts hardly differ
        weight.data.add_(0.2 * torch.randn_like(weight))
    tower = TextTower(plain, None, module)
    begin = 0 if kind is T5EncoderModel else 1
    neurons = random_neurons(0, n=3, d=32)
    eraser = ConceptEraser(neurons, ("a", "b", "c"), tower.fingerprint, "text_encoder", tower.path, begin=begin)
    tokens = torch.randint(3, 57, (6, 12), generator=torch.Generator().manual_seed(0))
    tokens[:, -1] = 59
    with torch.no_grad():
        unedited = tensors(plain(tokens, output_hidden_states=True))
        with eraser.attach(tower):
            expected = tensors(plain(tokens, output_hidden_states=True))
    assert not all(same_bits(a, b) for a, b in zip(unedited, expected, strict=True))
    before = copy.deepcopy(plain.state_dict())
    bake_encoder(plain, eraser).save_pretrained(tmp_path)
    assert all(same_bits(before[key], tensor) for key, tensor in plain.state_dict().items())
    loaded = getattr(baked, ERASED[kind.__name__]).from_pretrained(tmp_path, dtype="auto").eval()
    with torch.no_grad():
        found = tensors(loaded(tokens, output_hidden_states=True))
    assert all(same_bits(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(RuntimeError, match="mismatch"):
        kind.from_pretrained(tmp_path)
