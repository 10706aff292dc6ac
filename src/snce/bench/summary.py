"""The summary of a benchmark run: figures of every method, as JSON and as a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from snce.bench.measures import MEASURES, Interval, bootstrap
from snce.bench.rows import read_rows
from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLUMNS = ("harmonic mean", "erased: direct", "erased: synonym", "erased: sentence", "kept: others",
           "kept: neighbours", "kept: styles", "pair precision", "identical", "fréchet distance")  # fmt: skip
"""Measures in the table, in this order; the JSON has all."""
_SHARES = set(COLUMNS) - {"fréchet distance"}


def summarise(parts: Sequence[Path], samples: int = 1000) -> dict[str, Any]:
    """Per number of concepts erased together and per method: every measure with its interval, and the costs."""
    columns, metadata = read_rows(parts)
    counts = np.array([1 + name.count(" + ") for name in columns["erased"].tolist()])
    result: dict[str, Any] = {}
    for count in sorted(set(counts.tolist())):
        methods: dict[str, Any] = {}
        for method in dict.fromkeys(columns["method"].tolist()):
            chosen = (columns["method"] == method) & (counts == count)
            if chosen.any():
                rows = {name: column[chosen] for name, column in columns.items()}
                methods[method] = {
                    "setting": float(rows["setting"][0]),
                    "sets": len(set(rows["erased"].tolist())),
                    "pictures": int(chosen.sum()),
                    **{name: bootstrap(rows, measure, samples)._asdict() for name, measure in MEASURES.items()},
                    **_costs([m for m in metadata if m["method"] == method and 1 + m["erased"].count(" + ") == count]),
                }
        result[str(count)] = methods
    return result


def _costs(metadata: Sequence[dict[str, str]]) -> dict[str, float]:
    """Medians: one slow minute of a busy machine does not count."""
    costs = [json.loads(m["cost"]) for m in metadata]
    added = [c["seconds_per_picture"] / c["base_seconds_per_picture"] - 1 for c in costs]
    return {
        "prepare seconds": float(np.median([c["prepare_seconds"] for c in costs])),
        "bytes": float(np.median([c["bytes"] for c in costs])),
        "added time per picture": float(np.median(added)),
    }


def markdown(summary: dict[str, Any]) -> str:
    """One table per number of concepts erased together, the best harmonic mean first."""
    tables = []
    for count, methods in summary.items():
        heading = "One concept at a time" if count == "1" else f"{count} concepts together"
        lines = [f"### {heading}", "", "| method | setting | " + " | ".join(COLUMNS) + " | to prepare | size | time |"]
        lines.append("|---" * (len(COLUMNS) + 5) + "|")
        for name, found in sorted(methods.items(), key=lambda item: -item[1]["harmonic mean"]["value"]):
            cells = [_cell(column, Interval(**found[column])) for column in COLUMNS]
            setting = "-" if found["setting"] != found["setting"] else f"{found['setting']:g}"
            cost = (
                f"{found['prepare seconds']:.1f} s | {_size(found['bytes'])} | {found['added time per picture']:+.0%}"
            )
            lines.append(f"| {name} | {setting} | " + " | ".join(cells) + f" | {cost} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def _cell(column: str, figure: Interval) -> str:
    if figure.value != figure.value:
        return "-"
    if column in _SHARES:
        return f"{100 * figure.value:.1f} ({100 * figure.low:.0f} to {100 * figure.high:.0f})"
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def _size(n: float) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{n / 1e3:.1f} KB" if n >= 1e3 else f"{n:.0f} B"


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """DIR/summary.json and DIR/table.md."""
    write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_text(folder / "table.md", markdown(summary))
