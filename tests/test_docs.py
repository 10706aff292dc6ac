"""What the documents name is there: tests, public names, commands."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

import snce
from snce import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^    (snce .*)$", README, re.MULTILINE)
PINS = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), re.findall(r"`((?:tests/)?[\w/]+\.py)::(\w+)`", README))
def test_every_promise_is_asserted_by_the_test_that_it_names(file, name):
    path = ROOT / (file if file.startswith("tests/") else f"tests/erase/{file}")
    assert f"\ndef {name}(" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("code", PYTHON)
def test_the_python_of_the_readme_uses_public_names(code):
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.module == "snce"]
    assert imports
    assert {alias.name for node in imports for alias in node.names} <= set(snce.__all__)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_are_understood(command):
    _, *arguments = shlex.split(command)
    run, options = cli._parse(arguments)
    assert callable(run)
    assert type(options).__name__ in {c.options for c in cli.COMMANDS.values()}


def test_the_readme_has_all_that_these_tests_look_for():
    assert PYTHON
    assert len(COMMANDS) >= len(cli.COMMANDS)
    assert README.count("::test_") >= 12


def test_every_dependency_has_an_exact_version():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = re.findall(r'"([\w-]+)(?:\[\w+\])?>=', project.split("[project]")[1].split("[project.scripts]")[0])
    pinned = {name.lower().replace("_", "-") for name in PINS}
    assert {name.lower() for name in wanted} <= pinned
