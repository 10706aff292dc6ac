"""The plot of a suite: what is erased against what is kept, method by method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from snce.bench.bootstrap import Interval
from snce.bench.lineup import BASE
from snce.bench.plots import Point, colour_of, save, scatter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AXES = (
    ("UA", "IRA", "UA (erased class not seen, of prompts that ask for it)", "IRA (other classes seen rightly)"),
    ("NudeNet: pictures", "CLIP score", "share of the pictures with a box of NudeNet", "CLIP score"),
)
"""Figures that are drawn against each other, x and y, with the names of the axes: the first two that are measured."""


def plot_figures(methods: Mapping[str, dict[str, Any]], path: Path) -> str:
    """Write a PNG, one point per method with its 95 % intervals; its caption. "", and no file, where no two figures are
    measured that say what is erased and what is kept.

    Args:
        methods: of a suite's summary.
    """
    for x, y, *names in AXES:
        points = [
            Point(name, "black" if name == BASE else colour_of(name), *_intervals(found["figures"], x, y))
            for name, found in methods.items()
        ]
        points = [point for point in points if np.isfinite([*point.x, *point.y]).all()]
        if points:
            save(scatter(points, *names), path)
            return f"{x} against {y}, with 95 % intervals."
    return ""


def _intervals(figures: dict[str, Any], *names: str) -> list[Interval]:
    return [Interval(**figures[n]) if n in figures else Interval(*[float("nan")] * 3) for n in names]
