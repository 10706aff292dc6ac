"""The tables of docs/benchmark.md."""

from tests.docs.pages import DOCS

TABLES = (DOCS / "benchmark.md").read_text(encoding="utf-8")


def value(section: str, method: str, column: str) -> str:
    """A number in the tables of the benchmark."""
    lines = TABLES.split(f"### {section}\n")[1].strip().splitlines()
    head, row = (
        next(line for line in lines if line.startswith(f"| {name} |")).split(" | ") for name in ("method", method)
    )
    return row[head.index(column)].split(" ")[0]
