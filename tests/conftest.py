"""Fixtures that several test files use; what they are made of is in `tests.examples`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, settings

from snce.demo.laboratory import SAE, TRAINING, Laboratory
from snce.emblem.load import load
from snce.text.towers import TextTower
from tests.examples import eraser_for, picture, state, tiny_pipeline
from tests.studio import studio

__all__ = ["studio"]  # a fixture of its own file

torch.set_num_threads(1)

# examples cost what tensors cost, on a machine that may be busy: no deadlines; the same examples in every run
settings.register_profile(
    "snce",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("snce")


@pytest.fixture(scope="session")
def shared_pipe():
    """One pipeline for tests that leave it as they found it; `left_as_found` checks that."""
    pipe = tiny_pipeline(0)
    picture(pipe, "")  # the first call sets attributes
    return pipe


@pytest.fixture
def pipe():
    """A pipeline of the test's own."""
    return tiny_pipeline(0)


@pytest.fixture(scope="session")
def tower(shared_pipe):
    return TextTower.from_pipeline(shared_pipe)


@pytest.fixture(scope="session")
def erasers(tower):
    """Two erasers, the first of a prompt code and the second of a position code, with their loud and silent prompts."""
    return eraser_for(tower, 0), eraser_for(tower, 1)


@pytest.fixture
def left_as_found(shared_pipe):
    before = state(shared_pipe)
    yield
    assert state(shared_pipe) == before


@pytest.fixture(scope="session")
def emblem():
    """The embedded model, for tests that leave it as they found it."""
    return load()


@pytest.fixture(scope="session")
def laboratory():
    """Emblem with its judge and a few of its captions."""
    return Laboratory(captions=3000, progress=False)


@pytest.fixture(scope="session")
def trained(laboratory):
    """An SAE on Emblem's text encoder: smaller and sooner done than the demo's, else the same."""
    return laboratory.train(replace(SAE, latents=512), replace(TRAINING, steps=400))
