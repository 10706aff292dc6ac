"""Write the tables of docs/benchmark.md and docs/benchmark/tables.md: those that `snce bench` makes of
docs/benchmark/summary.json. The overview and the first group stand in the page, the others apart.

python -m benchmarks.document_benchmark
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.document import put

from snce.bench.join import read_summary
from snce.bench.summary import markdown

DOCS = Path(__file__).parents[1] / "docs"
SUMMARY = DOCS / "benchmark" / "summary.json"
PAGES = {"results": DOCS / "benchmark.md", "tables": DOCS / "benchmark" / "tables.md"}
"""By the name of the place in the page."""


def tables() -> dict[str, str]:
    """In Markdown, by the name of the place."""
    overview, first, *others = re.split(r"\n\n(?=### )", markdown(read_summary(SUMMARY)).rstrip())
    return {"results": f"{overview}\n\n{first}", "tables": "\n\n".join(others)}


if __name__ == "__main__":
    for name, table in tables().items():
        put(PAGES[name], name, table)
