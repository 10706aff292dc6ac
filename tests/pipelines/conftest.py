"""Pipelines of all families, each built once for the tests that leave it as they found it."""

from __future__ import annotations

from functools import cache

import pytest

from tests.pipelines.families import FAMILIES
from tests.pipelines.rows import copied, received_rows


@pytest.fixture(scope="session")
def family_pipe():
    """By the name of the class."""

    @cache
    def build(name: str):
        return FAMILIES[name](0)

    return build


@pytest.fixture(scope="session")
def untouched_rows(family_pipe):
    """What the denoiser of a family receives for `PROMPTS` and for `NEGATIVES`; the caller may write into it."""
    once = cache(lambda name: received_rows(family_pipe(name)))
    return lambda name: tuple(copied(rows) for rows in once(name))
