"""Tests beside other libraries: `make ecosystem` gives them an environment of their own, with all of these in it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch

from snce.emblem.concepts import load_concept
from snce.emblem.corpus import captions_for_training
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.origin import SAEOrigin
from snce.sae.thresholds import calibrate_thresholds
from snce.sae.train import train_sae
from snce.text.harvest import Embeddings, harvest
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder

LIBRARIES = ("sae_lens", "sparsify", "eval_unlearn")

# the test files import them; where one is missing, nothing is collected, and pytest fails for want of tests
if not all(find_spec(name) for name in LIBRARIES):
    collect_ignore_glob = ["test_*.py"]

CODES = {
    "topk": SAEConfig.plain(256, latents=256, k=12),
    "batchtopk": SAEConfig.plain(256, latents=256, k=12, activation="batchtopk"),
    "prompt code": SAEConfig(256, latents=256, k=4),
}


@pytest.fixture(scope="session")
def emblem_tower(emblem):
    return TextTower.from_pipeline(emblem)


@pytest.fixture(scope="session")
def embeddings(emblem_tower) -> Embeddings:
    """Emblem's, of 400 captions."""
    return harvest(emblem_tower, captions_for_training(400, seed=1))


@pytest.fixture(scope="session")
def origin(emblem_tower):
    return SAEOrigin(emblem_tower.fingerprint, emblem_tower.name, emblem_tower.path, emblem_tower.pipeline)


@pytest.fixture(scope="session")
def saes(embeddings) -> dict[str, SparseAutoencoder]:
    """An SAE of each kind that `snce train` makes, trained for a moment, with thresholds."""
    made = {}
    for name, config in CODES.items():
        made[name], _ = train_sae(embeddings, config, TrainConfig(steps=80, batch=32, dead_after=20))
        calibrate_thresholds(made[name], embeddings)
    return made


class Violin(NamedTuple):
    """The concept's prompts and an SAE that knows it; half of the prompts was kept from the SAE."""

    sae: SparseAutoencoder
    rank: tuple[Embeddings, Embeddings]
    test: tuple[Embeddings, Embeddings]
    targets: list[str]
    neutrals: list[str]


@pytest.fixture(scope="session")
def violin(emblem_tower, embeddings) -> Violin:
    """Of Emblem's own concepts, one that a small SAE learns in a moment."""
    concept = load_concept("violin")
    targets, neutrals = concept.targets[:80], concept.neutrals[:80]
    (rank_t, test_t), (rank_n, test_n) = (harvest(emblem_tower, prompts).halves() for prompts in (targets, neutrals))
    parts = (embeddings, rank_t, rank_n)
    corpus = Embeddings(torch.cat([part.x for part in parts]), torch.cat([part.kinds for part in parts]))
    sae, _ = train_sae(corpus, SAEConfig(256, latents=256, k=4), TrainConfig(steps=200, batch=32, dead_after=20))
    calibrate_thresholds(sae, corpus)
    return Violin(sae, (rank_t, rank_n), (test_t, test_n), list(targets), list(neutrals))


@pytest.fixture(params=CODES)
def ours(request, saes) -> SparseAutoencoder:
    return saes[request.param]


@pytest.fixture(params=["topk", "batchtopk"])
def position_code(request, saes) -> SparseAutoencoder:
    return saes[request.param]


@pytest.fixture(scope="session", params=["real", "random"])
def x(request, embeddings):
    """Embeddings of content, [rows, d]: Emblem's own, or noise about their mean."""
    rows = embeddings.x[embeddings.kinds != 0][::7]
    if request.param == "real":
        return rows
    noise = torch.randn(2000, rows.shape[1], generator=torch.Generator().manual_seed(0))
    return rows.mean(0) + 3 * noise * rows.std(0)  # loud enough to pass the thresholds of a prompt code
