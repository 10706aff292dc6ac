"""Definitions in a syntax tree, as Markdown."""

from __future__ import annotations

import ast
import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Trees = Callable[[str], ast.Module]

Function = ast.FunctionDef | ast.AsyncFunctionDef
_WIDTH = 100


def members(tree: ast.Module) -> dict[str, ast.stmt]:
    """Public functions and classes of a module, and values with a docstring behind them, by name."""
    found: dict[str, ast.stmt] = {}
    for node, text in _with_docstrings(tree.body):
        name = node.name if isinstance(node, Function | ast.ClassDef) else _assigned(node) if text else None
        if name and not name.startswith("_"):
            found[name] = node
    return found


def rendered(node: ast.stmt, module: str, trees: Trees, heading: str) -> str:
    """A section of Markdown under `heading`."""
    if isinstance(node, Function):
        return f"{heading}\n\n{_code(_signature(node))}\n\n{_text(node)}\n"
    if isinstance(node, ast.ClassDef):
        return f"{heading}\n\n{_class(node, module, trees)}\n"
    text = next(text for other, text in _with_docstrings(trees(module).body) if _assigned(other) == _assigned(node))
    value = ast.unparse(node.value) if isinstance(node, ast.Assign | ast.AnnAssign) and node.value else ""
    return f"{heading}\n\n{f'`{value}`: ' if len(value) < 80 else ''}{text}\n"


def _class(node: ast.ClassDef, module: str, trees: Trees) -> str:
    init = next((f for f in node.body if isinstance(f, Function) and f.name == "__init__"), None)
    fields = [(f, text) for f, text in _with_docstrings(node.body) if isinstance(f, ast.AnnAssign)]
    data = [f for f, _ in fields if "ClassVar" not in ast.unparse(f.annotation)]
    if init:
        shown = _call(node.name, _arguments(init.args))
    elif data:  # a dataclass, or a NamedTuple
        shown = _call(node.name, [_field(f) for f in data])
    else:
        shown = f"class {node.name}" + (f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else "")
    parts = [_code(shown), _text(node)]
    public = [(f, text) for f, text in fields if not _assigned(f).startswith("_")]
    if public:
        parts.append("\n".join(f"- `{ast.unparse(f)}`{': ' + _line(text) if text else ''}" for f, text in public))
    parts += [_method(f) for f in _methods(node)]
    for base in node.bases:  # what comes from a class of our own
        name, home = ast.unparse(base), _imports(trees(module)).get(ast.unparse(base), "")
        if home.startswith("snce."):
            above = {f.name for f in _methods(node)}
            parts += [_method(f) for f in _methods(members(trees(home))[name]) if f.name not in above]
    return "\n\n".join(part for part in parts if part)


def _methods(node: ast.stmt) -> list[Function]:
    functions = [f for f in getattr(node, "body", []) if isinstance(f, Function)]
    return [f for f in functions if not f.name.startswith("_") or f.name == "__or__"]


def _method(node: Function) -> str:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if decorators & {"property", "cached_property"}:
        returns = f": {ast.unparse(node.returns)}" if node.returns else ""
        return f"**`.{node.name}{returns}`** {_text(node)}".rstrip()
    shown = _signature(node)
    return f"**`.{node.name}`**\n\n{_code(shown)}\n\n{_text(node)}"


def _signature(node: Function) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return _call(node.name, _arguments(node.args)) + returns


def _call(name: str, arguments: list[str]) -> str:
    """On one line, or one for each argument."""
    shown = f"{name}({', '.join(arguments)})"
    return shown if len(shown) <= _WIDTH else f"{name}(\n    " + ",\n    ".join(arguments) + ",\n)"


def _arguments(given: ast.arguments) -> list[str]:
    """As they are written in the source, without self."""
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + given.defaults
    shown = [_argument(arg, default) for arg, default in zip(plain, defaults, strict=True)]
    if plain and plain[0].arg in ("self", "cls"):
        shown = shown[1:]
    if given.vararg:
        shown.append("*" + _argument(given.vararg, None))
    elif given.kwonlyargs:
        shown.append("*")
    shown += [_argument(arg, default) for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return shown + (["**" + _argument(given.kwarg, None)] if given.kwarg else [])


def _argument(arg: ast.arg, default: ast.expr | None) -> str:
    shown = arg.arg + (f": {ast.unparse(arg.annotation)}" if arg.annotation else "")
    if default is None:
        return shown
    return shown + (" = " if arg.annotation else "=") + ast.unparse(default)


def _field(node: ast.AnnAssign) -> str:
    """As an argument of the class."""
    if node.value is None:
        return _assigned(node)
    value = ast.unparse(node.value)
    return f"{_assigned(node)}={value if len(value) < 20 else '...'}"


def _with_docstrings(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Each statement with the string that stands behind it."""
    for node, behind in zip(body, [*body[1:], None], strict=True):
        value = behind.value if isinstance(behind, ast.Expr) else None
        text = value.value if isinstance(value, ast.Constant) else None
        yield node, inspect.cleandoc(text) if isinstance(text, str) else ""


def _assigned(node: ast.stmt) -> str:
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.target)
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""


def _imports(tree: ast.Module) -> dict[str, str]:
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.asname or alias.name: str(node.module) for node in froms for alias in node.names}


def _text(node: Function | ast.ClassDef) -> str:
    """The docstring; its sections Args and Raises as lists."""
    lines, out, inside = (ast.get_docstring(node) or "").splitlines(), [], False
    for line in lines:
        if line in ("Args:", "Raises:"):
            out += [f"*{line[:-1]}*", ""]
            inside = True
        elif inside and re.match(r"    \S", line):
            name, _, rest = line.strip().partition(": ")
            out.append(f"- `{name}`: {rest}")
        elif inside and line.startswith("        "):
            out.append(f"  {line.strip()}")
        else:
            inside = inside and not line
            out.append(line)
    return "\n".join(out).strip()


def _line(text: str) -> str:
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"```python\n{text}\n```"
