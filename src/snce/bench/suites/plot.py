"""The plot of a suite: what is erased against what is kept, method by method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from snce.bench.bootstrap import Interval
from snce.bench.lineup import BASE
from snce.bench.plots import ACCENT, QUIET, is_ours
from snce.storage import replacing

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
        points = [(name, *_intervals(found["figures"], x, y)) for name, found in methods.items()]
        points = [point for point in points if np.isfinite([*point[1], *point[2]]).all()]
        if points:
            _plot(points, names, path)
            return f"{x} against {y}, with 95 % intervals."
    return ""


def _intervals(figures: dict[str, Any], *names: str) -> list[Interval]:
    return [Interval(**figures[n]) if n in figures else Interval(*[float("nan")] * 3) for n in names]


def _plot(points: list[Any], names: list[str], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: it would keep state and want a display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    points = sorted(points, key=lambda point: (-point[2].value, -point[1].value))
    for i, (method, x, y) in enumerate(points):
        colour = "black" if method == BASE else ACCENT if is_ours(method) else QUIET
        # an end of an interval may lie on the wrong side of its value by a rounding error
        xerr, yerr = ([[max(0.0, v.value - v.low)], [max(0.0, v.high - v.value)]] for v in (x, y))
        axis.errorbar(x.value, y.value, xerr=xerr, yerr=yerr, fmt="o", color=colour, elinewidth=0.8, markersize=5)
        # names stand beside the plot in the order of their points: the best may lie on top of each other
        axis.annotate(
            method,
            (x.value, y.value),
            xytext=(1.03, 1 - (i + 0.5) / len(points)),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": colour, "linewidth": 0.4, "alpha": 0.6},
            annotation_clip=False,
        )
    axis.set_xlabel(names[0])
    axis.set_ylabel(names[1])
    axis.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
