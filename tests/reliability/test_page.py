"""docs/reliability.md names tests that are there, how to run them, and all slow ones of this folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.findall(r"(?:\*(slow|ray)\*[^`]*)?`((?:tests/)?[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("mark", "file", "name"), NAMED)
def test_every_promise_is_proven_by_the_test_that_it_names(mark, file, name):
    path = ROOT / file if file.startswith("tests/") else HERE / file
    before, found, _ = path.read_text(encoding="utf-8").partition(f"\ndef {name}(")
    assert found
    decorators = before.rpartition("\n\n")[2]
    assert ("pytest.mark.slow" in decorators) == (mark == "slow")
    assert ("\npytestmark = pytest.mark.ray\n" in before) == (mark == "ray")


def test_every_slow_proof_is_named():
    for path in HERE.glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"^@pytest\.mark\.slow\n(?:@.*\n|[ )\]].*\n)*def (\w+)\(", text, re.MULTILINE):
            assert (path.name, name) in {(file, test) for _, file, test in NAMED}
