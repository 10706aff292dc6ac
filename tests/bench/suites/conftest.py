"""Models of toy size in folders, made once."""

from __future__ import annotations

import pytest

from tests.bench.suites.tiny import tiny_classifier, tiny_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> str:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> str:
    return tiny_classifier(tmp_path_factory.mktemp("classifier"))
