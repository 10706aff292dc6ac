"""What methods cost, from the costs of their parts."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from snce.bench.measures import Columns

    Costs = Mapping[str, dict[str, float]]
    """The fields of `snce.bench.rows.Cost`, by what was drawn: a set of erased concepts, or a chunk of prompts."""

PREPARE, SIZE, TIME = COST_FIGURES = ("prepare seconds", "bytes", "added time per picture")
"""Names in the summary."""


def cost_figures(own: Costs, added: float) -> dict[str, float]:
    """Medians over the parts of a method: one slow minute of a busy machine does not count.

    added: the share of a picture's time that the method adds.
    """
    return {
        PREPARE: float(np.median([c["prepare_seconds"] for c in own.values()])),
        SIZE: float(np.median([c["bytes"] for c in own.values()])),
        TIME: added,
    }


def added_in_parts(own: Costs, base: Costs) -> float:
    """The share of time that is added to a picture beside what the same parts take without a method, a median."""
    drawn = "seconds_per_picture"
    added = [cost[drawn] / base[part][drawn] - 1 for part, cost in own.items() if part in base]
    return float(np.median(added)) if added else float("nan")


def cpu_hours(columns: Columns, metadata: Sequence[dict[str, str]]) -> float:
    """What preparing and drawing took, for all parts of a run. Tuning and judging are not in it.

    Args:
        columns, metadata: of `read_rows`.
    """
    pictures = Counter(zip(columns["method"].tolist(), columns["erased"].tolist(), strict=True))
    total = 0.0
    for part in metadata:
        cost = json.loads(part["cost"])
        total += cost["prepare_seconds"] + cost["seconds_per_picture"] * pictures[part["method"], part["erased"]]
    return total / 3600


def cost_cells(found: Mapping[str, Any]) -> str:
    """The cells of a table's row: to prepare, size, time."""
    added = found[TIME]
    time = "-" if added != added else f"{added:+.0%}"
    return f"{found[PREPARE]:.1f} s | {_size(found[SIZE])} | {time}"


def _size(n: float) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{n / 1e3:.1f} KB" if n >= 1e3 else f"{n:.0f} B"
