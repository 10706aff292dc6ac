"""Embeddings to try SAEs on, and where these say they come from."""

from __future__ import annotations

import pytest

from snce.sae.origin import SAEOrigin
from snce.text.harvest import Embeddings, harvest
from tests.examples import PROMPTS


@pytest.fixture(scope="module")
def data(tower) -> Embeddings:
    return harvest(tower, [f"{a} {b}" for a in PROMPTS for b in ("", "x", "y z")])


@pytest.fixture(scope="module")
def origin(tower) -> SAEOrigin:
    return SAEOrigin(tower.fingerprint, tower.name, tower.path, tower.pipeline, {"steps": 5}, {"fvu": 0.25})
