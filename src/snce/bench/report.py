"""Reports of runs: one HTML file with table, plots and strips of pictures; nothing in it comes from a network."""

from __future__ import annotations

import base64
import html
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from snce.bench.summary import markdown
from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1240px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; font-size: 12px; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: 4px 8px; text-align: left; white-space: nowrap }
img { max-width: 100% } figure { margin: 1em 0 } figcaption { color: #555; font-size: 13px }
details { border-top: 1px solid #ddd; padding: .4em 0 }
"""


class Strip(NamedTuple):
    """Pictures of a method on a set of erased concepts."""

    method: str
    erased: tuple[str, ...]
    png: Path
    """May be missing, where only the rows of another machine were collected."""


def write_report(
    path: Path, summary: dict[str, Any], plots: Sequence[tuple[str, Path]], strips: Sequence[Strip]
) -> None:
    """The report of the precision suite.

    plots: (caption, PNG). The strips are grouped by what is erased.
    """
    parts = [
        "<p>Shares in percent with 95 % bootstrap intervals over concepts and pictures. Ranked by the harmonic mean of "
        "erasure, retention and pair precision. The Fréchet distance is taken in the judge's feature space.</p>",
        tables(markdown(summary)),
        *(plotted(caption, plot) for caption, plot in plots),
        "<h2>Pictures</h2><p>Upper row: before. Lower row: with the concept erased. From left to right, two of each "
        "kind that there is: direct prompts; synonyms; new sentences; pairs; other objects; neighbours.</p>",
    ]
    groups: dict[tuple[str, ...], list[Strip]] = {}
    for strip in strips:
        if strip.png.exists():
            groups.setdefault(strip.erased, []).append(strip)
    for erased, members in groups.items():
        figures = [f"<figure><figcaption>{html.escape(s.method)}</figcaption>{_strip(s.png)}</figure>" for s in members]
        parts.append(f"<details><summary>{html.escape(', '.join(erased))}</summary>{''.join(figures)}</details>")
    write_page(path, "snce: precision benchmark", "Concept erasure on Emblem, method by method", parts)


def write_page(path: Path, title: str, heading: str, parts: Sequence[str]) -> None:
    """parts: HTML, what comes below the heading."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    style = f"<style>{_STYLE}</style><h1>{html.escape(heading)}</h1>"
    write_text(path, "\n".join([head, style, *parts]) + "</html>\n")


def plotted(caption: str, path: Path) -> str:
    """HTML of a PNG with a caption."""
    image = _tag(path.stem, "png", path.read_bytes())
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def embedded(image: Image.Image, name: str) -> str:
    """HTML of a picture. Hundreds of them are in the report of a full run: as PNG they would make it too large to
    open."""
    buffer = BytesIO()
    image.save(buffer, "webp", quality=85)
    return _tag(name, "webp", buffer.getvalue())


def _strip(path: Path) -> str:
    return embedded(Image.open(path), path.stem)


def _tag(name: str, kind: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    return f'<img loading="lazy" alt="{html.escape(name)}" src="data:image/{kind};base64,{text}">'


def tables(text: str) -> str:
    """HTML of the markdown that summaries are written in: headings, tables, lines of text."""
    out: list[str] = []
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if block.startswith("### "):
            out.append(f"<h2>{html.escape(block[4:].strip())}</h2>")
        elif lines and not block.startswith("|"):
            out.append(f"<p>{html.escape(' '.join(lines))}</p>")
        elif lines:
            cells = [[html.escape(c.strip()) for c in line.strip("|").split("|")] for line in lines]
            out.append("<table><tr>" + "".join(f"<th>{c}</th>" for c in cells[0]) + "</tr>")
            out += ["<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in cells[2:]]
            out.append("</table>")
    return "\n".join(out)
