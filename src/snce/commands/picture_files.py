"""The files of `snce generate`: a grid, a file per prompt, or a folder for a list of prompts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from typing import TYPE_CHECKING, Any

from snce.commands.console import stdout
from snce.errors import SnceError
from snce.storage import read_json, replacing, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from snce.commands.generate_options import GenerateOptions

_SETTINGS = "settings.json"


class Series:
    """A folder with a picture for each of a list of prompts: 000001.png and so on, prompts.csv, settings.json.

    Raises:
        SnceError: the folder has pictures of other prompts, settings, models or erasers, or cannot be written.
    """

    def __init__(
        self, folder: Path, prompts: Sequence[str], options: GenerateOptions, inputs: Mapping[str, str]
    ) -> None:
        """inputs: see `snce.commands.drawing.inputs_of`."""
        self.folder, self.prompts = folder, prompts
        settings = settings_of(prompts, options, inputs)
        path = folder / _SETTINGS
        there = _read_settings(path) if path.exists() else settings
        other = [name[:40] for name in {**settings, **there} if there.get(name) != settings.get(name)]
        if other:
            raise SnceError(
                f"{folder} has pictures of other prompts or settings ({path} differs in {', '.join(other[:12])}): "
                "choose another --out"
            )
        write_text(path, json.dumps(settings, indent=1) + "\n")

    def file(self, number: int) -> Path:
        """Of the picture of prompt `number`, counted from 0."""
        return self.folder / f"{number + 1:06d}.png"

    def has(self, number: int) -> bool:
        """Whether its picture is there."""
        return self.file(number).exists()

    def put(self, number: int, image: Image) -> None:
        write_png(self.file(number), image)

    def write_list(self, fired: Sequence[str] | None) -> None:
        """prompts.csv: file, prompt and, where erasers were used, the concepts whose neurons fired on it."""
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(["file", "prompt"] + ([] if fired is None else ["fired"]))
        for i, prompt in enumerate(self.prompts):
            rows.writerow([self.file(i).name, prompt] + ([] if fired is None else [fired[i]]))
        write_text(self.folder / "prompts.csv", text.getvalue())


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        there = read_json(path, "settings.json of a folder of pictures")
    except SnceError as error:
        raise SnceError(f"{error}; choose another --out") from error
    if not isinstance(there, dict):
        raise SnceError(f"{path} holds no settings of a folder of pictures; choose another --out")
    return there


def settings_of(prompts: Sequence[str], options: GenerateOptions, inputs: Mapping[str, str]) -> dict[str, Any]:
    """All that decides what the pictures look like; the same on all machines, wherever the model and erasers lie."""
    from snce.commands.drawing import defaults

    names = ("strength", "negative_prompt", "seed", "height", "width")
    steps, guidance = defaults(options)  # they depend on the model's name
    return {
        "prompts": hashlib.sha256("\n".join(prompts).encode()).hexdigest(),
        **{name: getattr(options, name) for name in names},
        "steps": steps,
        "guidance_scale": guidance,
        **inputs,
    }


def write_images(images: Sequence[Image], options: GenerateOptions) -> None:
    """One file, a grid or, with `separate`, one file per prompt; prints their names."""
    files = {options.out: grid(images)}
    if options.separate and len(images) > 1:
        files = {options.out.with_stem(f"{options.out.stem}-{i}"): image for i, image in enumerate(images, 1)}
    for path, image in files.items():
        write_png(path, image)
        stdout().print(f"{path} written", soft_wrap=True, markup=False)


def write_png(path: Path, image: Image) -> None:
    """Whole or not at all."""
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def grid(images: Sequence[Image]) -> Image:
    """The pictures side by side, in rows of about as many as there are rows; one picture stays as it is."""
    from PIL import Image

    if len(images) == 1:
        return images[0]
    columns = math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return sheet
