"""What docs/real-models.md says of the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from snce import cli
from snce.bench.suites.columns import COLUMNS
from snce.bench.suites.config import SUITES
from snce.bench.suites.prompts import HOMES

PAGE = (Path(__file__).parents[3] / "docs" / "real-models.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (snce .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command):
    _, options = cli._parse(shlex.split(command)[1:])
    options.check()


def test_it_shows_every_suite_and_names_sources_and_columns():
    assert {shlex.split(command)[3] for command in COMMANDS} == set(SUITES)
    for name in (*HOMES.values(), *COLUMNS["seed"], *COLUMNS["text"]):
        assert name in PAGE
    assert "No figure of these suites was produced on real weights" in PAGE
