"""An SAE in a folder as the hub holds it: the file of save_sae, with its origin, and a card."""

from __future__ import annotations

import pytest
import torch

from snce.errors import SnceError
from snce.sae.config import SAEConfig
from snce.sae.formats import load_sae, save_sae
from snce.sae.model import SparseAutoencoder
from snce.sae.origin import SAEOrigin
from tests.examples import FINGERPRINT, random_embeddings, random_sae

ORIGIN = SAEOrigin(
    FINGERPRINT,
    pipeline="StableDiffusionPipeline",
    training={"steps": 60, "base_model": "alice/model"},
    metrics={"fvu": 0.25},
)


@pytest.fixture
def sae():
    sae = random_sae(0, SAEConfig(8, 12, 3))
    sae.origin = ORIGIN
    return sae


def test_a_folder_holds_what_save_sae_writes_and_gives_it_back_with_its_origin(sae, tmp_path):
    sae.save_pretrained(tmp_path / "a")
    save_sae(sae, tmp_path / "b", ORIGIN)
    written = (tmp_path / "a" / "sae.safetensors").read_bytes()
    assert written == (tmp_path / "b" / "sae.safetensors").read_bytes()
    back = SparseAutoencoder.from_pretrained(tmp_path / "a")
    assert vars(back.origin) == vars(ORIGIN)
    assert not back.training
    data = random_embeddings(0)
    assert torch.equal(back(data.x, data.kinds), sae(data.x, data.kinds))
    back.save_pretrained(tmp_path / "c")
    assert (tmp_path / "c" / "sae.safetensors").read_bytes() == written


def test_load_sae_leaves_the_origin_with_the_sae(sae, tmp_path):
    save_sae(sae, tmp_path, ORIGIN)
    loaded, origin = load_sae(tmp_path)
    assert loaded.origin is origin


def test_an_sae_of_unknown_origin_is_not_written(sae, tmp_path):
    sae.origin = None
    with pytest.raises(SnceError, match=r"set sae\.origin"):
        sae.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_card_of_an_sae(sae):
    card = sae.generate_model_card(repo_id="alice/sae")
    assert card.data.to_dict() == {
        "license": "unknown",
        "base_model": "alice/model",
        "library_name": "snce",
        "tags": ["sparse-autoencoder", "interpretability"],
    }
    assert 'SparseAutoencoder.from_pretrained("alice/sae")' in card.text
    assert "| fvu | 0.25 |" in card.text
    assert "| steps | 60 |" in card.text
    assert FINGERPRINT in card.text
