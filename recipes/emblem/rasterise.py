"""Step 2b: rasterise every icon once, 96 x 96 with alpha.

`icons.safetensors`: uint8 [icons, 4, 96, 96], premultiplied.
"""

from __future__ import annotations

import io
import json

import numpy as np
import resvg_py
import torch
from PIL import Image
from rich.progress import track

from snce.storage import write_tensors

from .fetch import ICON_SETS
from .paths import ICONS, PACKAGES, VOCABULARY

SIZE = 96


def load_svgs(style: str) -> dict[str, str]:
    """Every icon of a set as a complete SVG document, by name (aliases included)."""
    folder = PACKAGES / ICON_SETS[style][0].replace("/", "__")
    data = json.loads((folder / "icons.json").read_text())
    width, height = data.get("width", 16), data.get("height", 16)

    def document(icon: dict) -> str:
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {icon.get('width', width)} {icon.get('height', height)}"
        body = icon["body"].replace("currentColor", "#1a1a1a")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}"'
            f' width="{SIZE}" height="{SIZE}">{body}</svg>'
        )

    icons = data["icons"]
    aliases = {a: v["parent"] for a, v in data.get("aliases", {}).items() if v["parent"] in icons}
    return {name: document(icons[aliases.get(name, name)]) for name in [*icons, *aliases]}


def rasterise(svg: str) -> np.ndarray:
    """uint8 [4, SIZE, SIZE], colour premultiplied by alpha so that resizing does not bleed."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    rgba = np.asarray(canvas, dtype=np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    return (rgba * 255).round().astype(np.uint8).transpose(2, 0, 1)


def main() -> None:
    vocabulary = json.loads(VOCABULARY.read_text())
    styles, objects = vocabulary["styles"], vocabulary["objects"]
    svgs = {style: load_svgs(style) for style in styles}
    pictures, object_ids, style_ids = [], [], []
    for i, (_, item) in enumerate(track(list(objects.items()), "rasterising")):
        for style, icon in item["icons"].items():
            pictures.append(torch.from_numpy(rasterise(svgs[style][icon])))
            object_ids.append(i)
            style_ids.append(styles.index(style))
    tensors = {
        "rgba": torch.stack(pictures),
        "object": torch.tensor(object_ids, dtype=torch.int64),
        "style": torch.tensor(style_ids, dtype=torch.int64),
    }
    write_tensors(ICONS, tensors, {"format": "pt"})
    print(f"{len(pictures)} icons -> {ICONS}")


if __name__ == "__main__":
    main()
