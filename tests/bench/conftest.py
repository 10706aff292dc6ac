"""Fixtures for whole runs of the benchmark."""

from __future__ import annotations

import pytest

from snce.bench.cells import Bench
from tests.bench.running import shrink


@pytest.fixture
def small(monkeypatch, trained):
    shrink(monkeypatch, trained)


@pytest.fixture
def cells(monkeypatch):
    """The cells that were run."""
    seen, original = [], Bench.run

    def counting(self, cell):
        seen.append(cell)
        return original(self, cell)

    monkeypatch.setattr(Bench, "run", counting)
    return seen
