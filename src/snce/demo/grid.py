"""The demo's picture: prompts above pairs of rows, before and after."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from snce.storage import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

TILE = 128
GAP = 8
LABEL = 150
CAPTION = 46
INK = (30, 30, 30)
CHANGED = (214, 69, 65)
SAME = (46, 139, 87)


def save_png(image: Image.Image, path: Path) -> None:
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def to_image(picture: Tensor, side: int = TILE) -> Image.Image:
    """uint8 [3, h, w] -> PIL, enlarged without smoothing artefacts."""
    return Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.LANCZOS)


def before_after(
    sections: Sequence[tuple[str, Sequence[str], Tensor, Tensor]], title: str, subtitle: str = ""
) -> Image.Image:
    """One section per kind of prompt: (heading, prompts, pictures before, pictures after).

    A frame round each picture after says whether it changed (red) or is the same bytes (green).
    """
    columns = max(len(prompts) for _, prompts, _, _ in sections)
    section_height = CAPTION + 2 * (TILE + GAP) + 3 * GAP
    width = LABEL + columns * (TILE + GAP) + GAP
    canvas = Image.new("RGB", (width, 64 + len(sections) * section_height), "white")
    pen = ImageDraw.Draw(canvas)
    font, small = ImageFont.load_default(size=13), ImageFont.load_default(size=11)
    pen.text((GAP, GAP), title, INK, ImageFont.load_default(size=20))
    pen.text((GAP, 38), subtitle, INK, font)
    for i, (heading, prompts, before, after) in enumerate(sections):
        top = 64 + i * section_height
        pen.line((GAP, top, width - GAP, top), (220, 220, 220))
        pen.text((GAP, top + GAP), "\n".join(textwrap.wrap(heading, 20)), INK, font)
        first, second = top + CAPTION + GAP, top + CAPTION + TILE + 2 * GAP
        pen.text((GAP, first + TILE // 2 - 8), "before", INK, font)
        pen.text((GAP, second + TILE // 2 - 8), "neuron off", INK, font)
        for j, prompt in enumerate(prompts):
            left = LABEL + j * (TILE + GAP)
            pen.text((left, top + GAP // 2), "\n".join(textwrap.wrap(prompt, 21)[:4]), INK, small, spacing=1)
            canvas.paste(to_image(before[j]), (left, first))
            canvas.paste(to_image(after[j]), (left, second))
            colour = SAME if bool((before[j] == after[j]).all()) else CHANGED
            pen.rectangle((left - 2, second - 2, left + TILE + 1, second + TILE + 1), outline=colour, width=2)
    return canvas


def contact_sheet(pictures: Tensor, columns: int, side: int = 96) -> Image.Image:
    """uint8 [n, 3, h, w] as a grid."""
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * (side + 4) + 4, rows * (side + 4) + 4), "white")
    for i, picture in enumerate(pictures):
        canvas.paste(to_image(picture, side), (4 + i % columns * (side + 4), 4 + i // columns * (side + 4)))
    return canvas
