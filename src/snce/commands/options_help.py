"""The help of options: the docstrings of their dataclass, as flowing text."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import fields
from itertools import pairwise
from types import MappingProxyType


def flow_help(options: type) -> None:
    """Hand the parser each option's docstring in one line: it would keep the line breaks of the source, and break its
    own lines beside them.

    Args:
        options: a dataclass; an option that a base class describes has that text.
    """
    texts = {name: text for base in reversed(options.__mro__[:-1]) for name, text in _docstrings(base).items()}
    for field in fields(options):
        if field.name in texts:
            field.metadata = MappingProxyType({**field.metadata, "help": texts[field.name]})


def _docstrings(cls: type) -> dict[str, str]:
    """Of the attributes of a class: a text that stands alone behind each."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    return {
        attribute.target.id: " ".join(text.value.value.split())
        for attribute, text in pairwise(node.body)
        if isinstance(attribute, ast.AnnAssign)
        and isinstance(attribute.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
