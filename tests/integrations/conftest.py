"""Modular pipelines with erasers, for the tests of the block."""

from __future__ import annotations

import pytest

from tests.integrations.modular_cases import NAMES, Case, all_cases


@pytest.fixture
def cases():
    return all_cases()


@pytest.fixture(params=NAMES)
def it(request) -> Case:
    return all_cases()[request.param]
