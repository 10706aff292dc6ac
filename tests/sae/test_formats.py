"""An SAE's file: what is written comes back, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from snce.errors import SnceError
from snce.sae.config import SAEConfig
from snce.sae.formats import FORMAT, load_sae, sae_file, save_sae
from snce.sae.origin import SAEOrigin
from snce.storage import read_tensors, write_tensors
from snce.text.towers import TextTower
from tests.examples import random_embeddings, random_sae, same_bits, tiny_pipeline

CONFIGS = {
    "prompt code": SAEConfig(8, latents=20, k=3),
    "position code": SAEConfig(8, latents=20, k=3, support="position", activation="batchtopk"),
    "plain": SAEConfig.plain(8, latents=20, k=3),
}
ORIGIN = SAEOrigin("0123456789abcdef", pipeline="StableDiffusionPipeline", training={"steps": 5}, metrics={"fvu": 0.25})


@pytest.fixture
def folder(tmp_path):
    save_sae(random_sae(0, CONFIGS["prompt code"]), tmp_path, ORIGIN)
    return tmp_path


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_loaded_sae_is_the_saved_one_bit_for_bit(config, tmp_path):
    sae = random_sae(1, config)
    save_sae(sae, tmp_path, ORIGIN)
    loaded, origin = load_sae(tmp_path)
    assert loaded.config == config
    for name, tensor in sae.state_dict().items():
        assert same_bits(tensor, loaded.state_dict()[name]), name
    data = random_embeddings(0)
    assert same_bits(sae(data.x, data.kinds), loaded(data.x, data.kinds))
    assert vars(origin) == vars(ORIGIN)


def test_the_same_sae_gives_the_same_bytes(folder):
    first = sae_file(folder).read_bytes()
    for _ in range(5):
        sae, origin = load_sae(folder)
        save_sae(sae, folder, origin)
        assert sae_file(folder).read_bytes() == first


def test_a_loaded_sae_is_ready_for_use_and_asks_for_no_gradients(folder):
    sae, _ = load_sae(folder)
    assert not sae.training
    assert not any(p.requires_grad for p in sae.parameters())


def test_the_file_itself_may_be_named(folder):
    assert load_sae(sae_file(folder))[0].config == load_sae(folder)[0].config


def test_loading_leaves_the_global_random_state_alone(folder):
    before = torch.random.get_rng_state()
    load_sae(folder)
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_is_refused_for_another_text_encoder_or_module():
    tower, other = (TextTower.from_pipeline(tiny_pipeline(seed)) for seed in (0, 1))
    origin = replace(ORIGIN, fingerprint=tower.fingerprint, module=tower.path)
    origin.check(tower)
    with pytest.raises(SnceError, match=f"{tower.fingerprint}.*{other.fingerprint}"):
        origin.check(other)
    with pytest.raises(SnceError, match=r"encoder\.layers\.0"):
        origin.check(TextTower(tower.encoder, tower.tokenizer, "encoder.layers.0"))


# -- files that are none -----------------------------------------------------------------------------------------------


def rewrite(folder, change) -> None:
    """Write the file anew, with `change(tensors, metadata)` applied."""
    tensors, metadata = read_tensors(sae_file(folder), FORMAT)
    change(tensors, metadata)
    write_tensors(sae_file(folder), tensors, metadata)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file(folder, kept):
    file = sae_file(folder)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(SnceError, match="truncated"):
        load_sae(folder)


def test_a_missing_file(tmp_path):
    with pytest.raises(SnceError, match="no SAE in"):
        load_sae(tmp_path)


def test_a_file_of_another_kind(folder):
    rewrite(folder, lambda _tensors, metadata: metadata.update(format="snce-eraser-1"))
    with pytest.raises(SnceError, match="not a file of kind"):
        load_sae(folder)


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec", "scale", "threshold"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda t: t[..., :-1] if t.ndim else t[None], "has shape"),
        (lambda t: t * float("nan"), "NaN"),
        (lambda t: t.to(torch.int32), "no floating-point numbers"),
        (None, "lacks the tensor"),
    ],
    ids=["cut", "nan", "int", "gone"],
)
def test_a_damaged_tensor_is_named(folder, name, damage, says):
    def change(tensors, _metadata):
        tensor = tensors.pop(name)
        if damage:
            tensors[name] = damage(tensor)

    rewrite(folder, change)
    with pytest.raises(SnceError, match=f"{name}.*{says}|{says}.*{name}"):
        load_sae(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"config": "{"},
        {"config": "[]"},
        {"config": json.dumps({"width": 8, "colour": "red"})},
        {"config": json.dumps({"width": "8"})},
        {"config": json.dumps({"width": 8, "latents": 2.5, "k": 1})},
        {"config": json.dumps({"width": 8, "latents": 20, "k": 30})},
        {"config": json.dumps({"width": 8, "latents": 20, "k": 3, "support": "page"})},
        {"config": json.dumps({"width": 8, "latents": 10**15, "k": 3})},
        {"metrics": json.dumps({"fvu": "good"})},
        {"training": "7"},
    ],
    ids=lambda entry: " ".join(next(iter(entry.items())))[:50],
)
def test_damaged_metadata(folder, entry):
    rewrite(folder, lambda _tensors, metadata: metadata.update(entry))
    with pytest.raises(SnceError):
        load_sae(folder)


def test_metadata_that_lacks_an_entry(folder):
    rewrite(folder, lambda _tensors, metadata: metadata.pop("fingerprint"))
    with pytest.raises(SnceError, match="fingerprint"):
        load_sae(folder)
