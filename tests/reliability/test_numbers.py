"""Numbers that nothing can be made of: in the file of an SAE, and in the embeddings that one is trained on."""

from __future__ import annotations

import pytest

from snce.errors import SnceError
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.formats import load_sae, sae_file
from snce.sae.train import split, train_sae
from snce.storage import read_tensors, write_tensors
from tests.examples import random_embeddings

VALUES = [float("nan"), float("inf"), -float("inf")]
SHORT = TrainConfig(steps=20, batch=64)


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec", "scale", "threshold"])
@pytest.mark.parametrize("value", VALUES)
def test_a_number_in_an_sae_that_is_not_finite_is_refused(studio, tmp_path, name, value):
    tensors, metadata = read_tensors(sae_file(studio.sae), None)
    tensors[name].view(-1)[-1] = value
    write_tensors(sae_file(tmp_path), tensors, metadata)  # with a checksum that is right
    with pytest.raises(SnceError, match=rf"sae\.safetensors: '{name}' holds NaN, infinity"):
        load_sae(tmp_path)


@pytest.mark.parametrize("support", ["prompt", "position"])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", ["first", "beyond the sample", "held out"])
def test_a_number_in_embeddings_that_is_not_finite_ends_the_training(support, value, place):
    """Wherever it is: among the first prompts, by which the weights begin; later ones; those that only the metrics
    see."""
    data = random_embeddings(0, n=5000)
    fit, test = split(data, SHORT)
    rows = {"first": fit[:1], "beyond the sample": fit[4096:], "held out": test[-1:]}[place]
    data.x[rows, 1, 3] = value  # at a word
    with pytest.raises(SnceError, match="NaN or infinity"):
        train_sae(data, SAEConfig(8, latents=16, k=3, support=support), SHORT)
