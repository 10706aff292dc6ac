"""Write docs/api.md from the docstrings: the public names of snce, and the modules that other pages mention. The
source is parsed, not imported.

python -m benchmarks.document_api
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from benchmarks.docstrings import members, rendered

import snce
from snce.storage import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
SOURCE = ROOT / "src"
FLOW = ("pipelines", "text", "sae", "neurons", "erase", "errors")
"""The order of the public names: that in which data flows."""

HEAD = """\
# API reference

Made of the docstrings by `python -m benchmarks.document_api` (or `make docs`). First the public names,
`from snce import ...`, in the order in which data flows; then their modules, and those that other pages mention. Shapes
stand in brackets: b prompts, d numbers per embedding, n neurons. Bad input raises `SnceError`.
"""


def page() -> str:
    """The whole of docs/api.md."""
    public = sorted(snce._HOMES.items(), key=lambda item: (FLOW.index(item[1].split(".")[1]), item[1], item[0]))
    parts = [HEAD, "## snce\n"]
    for name, home in public:
        parts.append(rendered(members(tree_of(home))[name], home, tree_of, heading=f"### {name}"))
    for module in sorted({*mentioned(), *snce._HOMES.values()}):
        parts.append(section(module, {name for name, home in public if home == module}))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def section(module: str, above: set[str]) -> str:
    """One module: its docstring and its public names, less those that stand above already."""
    tree = tree_of(module)
    if not members(tree).keys() - above:
        return ""
    parts = [f"## {module}\n", (ast.get_docstring(tree) or "") + "\n"]
    if above:
        parts.append("Above: " + ", ".join(f"[{name}](#{name.lower()})" for name in sorted(above)) + ".\n")
    for name, node in members(tree).items():
        if name not in above:
            parts.append(rendered(node, module, tree_of, heading=f"### {module.rpartition('.')[2]}.{name}"))
    return "\n".join(parts)


def mentioned() -> list[str]:
    """The modules of snce that the pages name, or import from."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "integrations").rglob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages if page != PAGE)
    found = set()
    for name in re.findall(r"\bsnce(?:\.\w+)+", text):
        parts = name.split(".")
        for n in range(len(parts), 1, -1):  # snce.bench.rows.Row is of the module snce.bench.rows
            if (SOURCE / Path(*parts[:n])).with_suffix(".py").is_file():
                found.add(".".join(parts[:n]))
                break
    return sorted(found)


def tree_of(module: str) -> ast.Module:
    path = (SOURCE / Path(*module.split("."))).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    write_text(PAGE, page())
