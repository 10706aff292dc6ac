"""The report of a suite: its table, what was run, and strips of pictures. Where these may be harmful to look at, none
are in it."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageOps

from snce.bench.lineup import BASE
from snce.bench.report import embedded, plotted, tables, write_page
from snce.bench.suites.figures import markdown
from snce.bench.suites.parts import Part
from snce.bench.suites.plot import plot_figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from snce.bench.measures import Columns

REPORT, PLOT = "report.html", "trade-off.png"
TO_LOOK_AT = ("coco", "imagenette", "unlearncanvas-style")
"""Suites whose pictures may be shown: their own prompts ask for nothing harmful."""
MOST, SIDE, GAP = 6, 128, 4
"""Prompts of a strip; pixels of a picture, and between two."""


class Example(NamedTuple):
    """A prompt of a strip."""

    number: int
    """Its place among the prompts of the run."""
    text: str


def examples(rows: Columns, numbers: Sequence[int]) -> list[Example]:
    """Prompts to show a method by, spread evenly over what it has drawn: if there are such, half of them ask for what
    is erased, and come first.

    Args:
        rows: of the method.
        numbers: of their prompts.
    """
    found = [Example(n, str(text)) for n, text in zip(numbers, rows["prompt"], strict=True)]
    direct = [e for e, kind in zip(found, rows["kind"], strict=True) if kind == "direct"]
    others = [e for e, kind in zip(found, rows["kind"], strict=True) if kind != "direct"]
    first = _spread(direct, max(MOST // 2, MOST - len(others)))
    return [*first, *_spread(others, MOST - len(first))]


def _spread(items: list[Example], n: int) -> list[Example]:
    n = min(n, len(items))
    return [items[i * len(items) // n] for i in range(n)]


def why_hidden(settings: Mapping[str, Any], rows: Columns) -> str:
    """Why the pictures of these rows stay out of the report; "" where they need not."""
    if settings["suite"] not in TO_LOOK_AT:
        return f"the prompts of {settings['suite']} ask for what may be harmful to look at"
    if "nudity" in settings["judges"]:
        return "they are judged for nudity"
    if any("categories" in json.loads(text) for text in rows["detail"] if text):
        return "their prompts have categories, as those of I2P have, which ask for what may be harmful to look at"
    return ""


def write_suite_report(
    folder: Path,
    summary: dict[str, Any],
    versions: Mapping[str, str],
    shown: Mapping[str, Sequence[Example]],
    hidden: str,
) -> None:
    """Write DIR/report.html, and DIR/trade-off.png where the measures allow it.

    Args:
        versions: of libraries.
        shown: prompts of each method's strip.
        hidden: see `why_hidden`.
    """
    settings = summary["settings"]
    made = [(name, found["settings"]) for name, found in summary["methods"].items() if found["settings"]]
    parts = [tables(markdown(summary)), "<p>With 95 % bootstrap intervals over pictures.</p>"]
    if caption := plot_figures(summary["methods"], folder / PLOT):
        parts.append(plotted(caption, folder / PLOT))
    parts += ["<h2>Pictures</h2>", *(_without(hidden) if hidden else _strips(folder, shown))]
    parts += ["<h2>What was run</h2>", _listing({**settings, "versions": dict(versions)})]
    parts += [f"<h2>Settings of the methods</h2>{_table(made)}"] if made else []
    write_page(folder / REPORT, f"snce: {settings['suite']}", f"Concept erasure: the suite {settings['suite']}", parts)


def _without(why: str) -> list[str]:
    return [f"<p>None are shown: {html.escape(why)}. All are in the folder <code>pictures</code>.</p>"]


def _strips(folder: Path, shown: Mapping[str, Sequence[Example]]) -> Iterator[str]:
    yield "<p>Upper row: the base model. Lower row: the method.</p>"
    for method, chosen in shown.items():
        if method != BASE:
            yield f"<details><summary>{html.escape(method)}</summary>{_figure(folder, method, chosen)}</details>"


def _figure(folder: Path, method: str, chosen: Sequence[Example]) -> str:
    """HTML of a strip, without prompts whose pictures are missing or damaged, as where only rows were collected."""
    pairs = [(e.text, _pictures(folder, BASE, e), _pictures(folder, method, e)) for e in chosen]
    there = [(text, old[0], new[0]) for text, old, new in pairs if old and new]
    if not there:
        return "<p>Its pictures are not in this folder.</p>"
    canvas = Image.new("RGB", (len(there) * (SIDE + GAP) - GAP, 2 * SIDE + GAP), "white")
    for column, (_, *both) in enumerate(there):
        for row, picture in enumerate(both):
            canvas.paste(ImageOps.contain(picture, (SIDE, SIDE)), (column * (SIDE + GAP), row * (SIDE + GAP)))
    prompts = html.escape(" | ".join(text for text, _, _ in there))
    return f"<figure>{embedded(canvas, method)}<figcaption>{prompts}</figcaption></figure>"


def _pictures(folder: Path, method: str, example: Example) -> list[Image.Image] | None:
    return Part(method, example.number, example.number + 1).load_pictures(folder)


def _listing(told: Mapping[str, Any]) -> str:
    return _table(_flat(told))


def _flat(told: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(path of names, value) of all that nested settings hold."""
    if isinstance(told, dict):
        for key, value in told.items():
            yield from _flat(value, f"{name}, {key}" if name else key)
    else:
        yield name, ", ".join(map(str, told)) if isinstance(told, list | tuple) else str(told)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"
