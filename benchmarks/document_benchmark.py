"""Write the tables of docs/benchmark.md and docs/benchmark/tables.md: those that `snce bench` makes of its summaries in
docs/benchmark. The overview and the first group of the whole run, and the first group of the run by looks, stand in
the page; the others apart.

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
LOOKS = DOCS / "benchmark" / "look-alikes.json"
_PAGE, _APART = DOCS / "benchmark.md", DOCS / "benchmark" / "tables.md"
PAGES = {"results": _PAGE, "tables": _APART, "look-alikes": _PAGE, "look-alike-tables": _APART}
"""By the name of the place in the page."""


def tables() -> dict[str, str]:
    """In Markdown, by the name of the place."""
    overview, first, *others = _parts(SUMMARY)
    looks_overview, looks, *other_looks = _parts(LOOKS)
    return {
        "results": f"{overview}\n\n{first}",
        "tables": "\n\n".join(others),
        "look-alikes": looks,
        "look-alike-tables": "\n\n".join([looks_overview, *other_looks]),
    }


def _parts(summary: Path) -> list[str]:
    """What the command prints, cut before its headings."""
    return re.split(r"\n\n(?=### )", markdown(read_summary(summary)).rstrip())


if __name__ == "__main__":
    for name, table in tables().items():
        put(PAGES[name], name, table)
