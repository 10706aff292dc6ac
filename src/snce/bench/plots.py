"""Plots of a benchmark run: erasure against retention, and a map of concepts and methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from snce.bench.bootstrap import Interval
from snce.bench.lineup import BASE, OURS
from snce.bench.rows import SEPARATOR
from snce.bench.summary import BY_SET, KEPT_APART, told
from snce.storage import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

ACCENT, QUIET, NOTHING = "#c0392b", "#4a7fb5", "#d9d9d9"


class Point(NamedTuple):
    """A method in a plot of two figures."""

    label: str
    colour: str
    x: Interval
    y: Interval


def plot_trade_off(summary: dict[str, Any], path: Path) -> None:
    """Write a PNG: erasure (x) against retention (y), one point per method with its 95 % intervals,
    ours in a colour of its own.

    Of the first group of the summary: one concept at a time, where there are such cells.
    """
    methods = next(iter(summary.values()))
    points = [
        Point(told(name, methods), colour_of(name), Interval(**found["erasure"]), Interval(**found["retention"]))
        for name, found in methods.items()
        if name != BASE
    ]
    names = "erased (share of the pictures that showed the concept)", "kept (other objects, neighbours, styles)"
    figure = scatter(points, *names)
    (axis,) = figure.axes
    for colour, label in ((ACCENT, f"{OURS}, with one neuron and with more"), (QUIET, "all others")):
        axis.plot([], [], "o", color=colour, markersize=5, label=label)
    axis.legend(loc="lower left", fontsize=8)
    save(figure, path)


def scatter(points: Sequence[Point], x_name: str, y_name: str) -> Figure:
    """Points with their 95 % intervals. Names stand beside the plot in the order of their points, since the best of the
    methods lie on top of each other."""
    points = sorted(points, key=lambda point: (-point.y.value, -point.x.value))
    figure = _figure(9.5, 6.0)
    axis = figure.subplots()
    for i, (label, colour, x, y) in enumerate(points):
        # an end of an interval may lie on the wrong side of its value by a rounding error
        xerr, yerr = ([[max(0.0, v.value - v.low)], [max(0.0, v.high - v.value)]] for v in (x, y))
        axis.errorbar(x.value, y.value, xerr=xerr, yerr=yerr, fmt="o", color=colour, elinewidth=0.8, markersize=5)
        axis.annotate(
            label,
            (x.value, y.value),
            xytext=(1.03, 1 - (i + 0.5) / len(points)),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": colour, "linewidth": 0.4, "alpha": 0.6},
            annotation_clip=False,
        )
    axis.set_xlabel(x_name)
    axis.set_ylabel(y_name)
    axis.grid(alpha=0.3)
    return figure


def colour_of(method: str) -> str:
    """Of its point and name."""
    return ACCENT if is_ours(method) else QUIET


def is_ours(method: str) -> bool:
    """Whether it is this library's own method, by its name in the tables; what the paper has is not."""
    return method == OURS or method.startswith(f"{OURS} (")


def plot_heat_map(summary: dict[str, Any], path: Path) -> None:
    """Write a PNG: the harmonic mean of each method (rows) on each set of erased concepts (columns).

    A figure that no picture tells (no pair, say, that showed both) or that was not measured is grey.
    """
    found: dict[str, dict[str, float]] = {}
    for group in summary.values():
        for name, figures in group.items():
            found.setdefault(name, {}).update(figures[BY_SET])
    erased = list(dict.fromkeys(name for by_set in found.values() for name in by_set))
    methods = [name for name in found if name != BASE] or list(found)  # of the first shards there may be no more
    values = np.array([[found[method].get(name, np.nan) for name in erased] for method in methods])
    figure = _figure(2.6 + 0.32 * len(erased), 2.2 + 0.28 * len(methods))
    axis = figure.subplots()
    axis.set_facecolor(NOTHING)
    image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    chose = {name for title in KEPT_APART for figures in summary.get(title, {}).values() for name in figures[BY_SET]}
    labels = [_short(name) + (" *" if name in chose else "") for name in erased]
    axis.set_xticks(range(len(erased)), labels, rotation=60, ha="right", fontsize=7)
    axis.set_yticks(range(len(methods)), methods, fontsize=8)
    figure.colorbar(image, label="harmonic mean")
    axis.set_title("grey: not measured, or no picture tells   *: chose settings", fontsize=8, loc="left")
    save(figure, path)


def _short(erased: str) -> str:
    count = 1 + erased.count(SEPARATOR)
    return erased if count == 1 else f"{count} concepts ({erased.split(SEPARATOR)[0]}, ...)"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: it would keep state and want a display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """As PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
