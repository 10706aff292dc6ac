"""docs/api.md is what the command makes of the docstrings, and has what it should."""

from __future__ import annotations

import ast
import inspect
import re

import pytest
from benchmarks.docstrings import members, rendered
from benchmarks.document_api import PAGE, mentioned, page, tree_of

import snce

TEXT = PAGE.read_text(encoding="utf-8")
HEADINGS = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)


def test_the_page_is_what_the_command_makes():
    assert page() == TEXT, "run: make docs"


@pytest.mark.parametrize("name", sorted(set(snce.__all__) - {"__version__"}))
def test_every_public_name_is_on_it_with_all_its_arguments_and_methods(name):
    assert name in HEADINGS
    after = TEXT.split(f"\n### {name}\n")[1]
    section = re.split(r"^##", after, maxsplit=1, flags=re.MULTILINE)[0]
    thing = getattr(snce, name)
    assert inspect.getdoc(thing).splitlines()[0].strip() in section
    if name != "SnceError":
        assert not [argument for argument in inspect.signature(thing).parameters if argument not in section]
    if inspect.isclass(thing):
        own = [key for kind in thing.__mro__ if kind.__module__.startswith("snce.") for key in vars(kind)]
        methods = [key for key in own if not key.startswith("_") and callable(getattr(thing, key))]
        assert not [key for key in methods if f"`.{key}`" not in section]


def test_every_module_that_the_pages_mention_is_on_it():
    assert len(mentioned()) > 15
    with_more = [module for module in mentioned() if members(tree_of(module)).keys() - set(snce.__all__)]
    assert set(with_more) <= set(HEADINGS)


def test_a_definition_is_written_as_it_stands_in_the_source():
    source = '''
def read(a: int, *more: str, size: int = 2, exact: bool, **options) -> list[int]:
    """Read it.

    Args:
        a: the first,
            and what goes with it.

    Raises:
        SnceError: nothing there.
    """

def _hidden(): ...

LIMIT = 3
"""How many."""
OTHER = 4
'''
    tree = ast.parse(source)
    assert list(members(tree)) == ["read", "LIMIT"]
    text = rendered(members(tree)["read"], "m", lambda _: tree, "### read")
    assert "read(a: int, *more: str, size: int = 2, exact: bool, **options) -> list[int]\n" in text
    assert "*Args*\n\n- `a`: the first,\n  and what goes with it.\n\n*Raises*\n\n- `SnceError`: nothing there." in text
    assert rendered(members(tree)["LIMIT"], "m", lambda _: tree, "### LIMIT") == "### LIMIT\n\n`3`: How many.\n"
