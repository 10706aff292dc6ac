"""Parts of a run: a method on a chunk of the prompts. A part whose file is there is done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from snce.bench.rows import Cost, Row, read_metadata, read_rows, write_rows
from snce.bench.suites.judges import Verdict, detail_of
from snce.demo.grid import save_png
from snce.errors import SnceError
from snce.storage import slug

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from snce.bench.suites.prompts import SuitePrompt


@dataclass(frozen=True)
class Part:
    """A method on the prompts from `start` to `stop`."""

    method: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Pictures."""
        return self.stop - self.start

    def file(self, folder: Path) -> Path:
        return folder / "parts" / f"{slug(self.method)}__{self.start:06d}.parquet"

    def pictures(self, folder: Path) -> list[Path]:
        return [folder / "pictures" / slug(self.method) / f"{i:06d}.png" for i in range(self.start, self.stop)]

    def save_pictures(self, folder: Path, images: Sequence[Image.Image]) -> None:
        for path, image in zip(self.pictures(folder), images, strict=True):
            save_png(image, path)

    def load_pictures(self, folder: Path) -> list[Image.Image] | None:
        """None if one is missing or damaged: they can be drawn again."""
        try:
            return [Image.open(path).convert("RGB") for path in self.pictures(folder)]
        except (OSError, UnidentifiedImageError, SyntaxError):  # Pillow's error for broken PNG chunks
            return None

    def is_done(self, folder: Path, settings: str, inputs: str) -> bool:
        """Whether its file is there.

        Raises:
            SnceError: the file is damaged, or was made with other settings or from another concept, SAE or eraser.
        """
        path = self.file(folder)
        if not path.exists():
            return False
        told = read_metadata(path)
        if told.get("settings") != settings:
            raise SnceError(f"{path} is of another run, with other settings: choose another --out")
        if told.get("inputs") != inputs:
            raise SnceError(
                f"{path} was made with another concept, SAE or eraser: delete the parts of {self.method!r}, or choose "
                "another --out"
            )
        return True


def chunks(count: int, size: int) -> list[tuple[int, int]]:
    """(start, stop) of each."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def write_part(part: Part, folder: Path, rows: Sequence[Row], cost: Cost, **metadata: str) -> None:
    told = {"method": part.method, "start": str(part.start), "cost": json.dumps(asdict(cost))}
    write_rows(part.file(folder), rows, {**told, **metadata})


def verdicts_of(path: Path) -> list[Verdict]:
    """What was seen in the pictures of a part."""
    columns, _ = read_rows([path])
    details = [json.loads(text) if text else {} for text in columns["detail"]]
    judged = ("object", "style", "nudity")
    return [
        Verdict(
            bool(columns["target_after"][i]),
            bool(columns["kept_after"][i]),
            bool(columns["style_after"][i]),
            float(columns["text_score_after"][i]),
            columns["features_after"][i].astype(np.float16),
            {kind: told[kind]["after"] for kind in judged if kind in told},
        )
        for i, told in enumerate(details)
    ]


@dataclass(frozen=True)
class Header:
    """What all rows of a part have in common."""

    suite: str
    model: str
    method: str
    setting: float
    erased: str


def rows_of(
    header: Header,
    prompts: Sequence[SuitePrompt],
    pictures: tuple[Sequence[Image.Image], Sequence[Image.Image]],
    verdicts: tuple[Sequence[Verdict], Sequence[Verdict]],
) -> list[Row]:
    """One row per prompt. pictures, verdicts: before and after."""
    rows = []
    for p, old, new, was, now in zip(prompts, *pictures, *verdicts, strict=True):
        identical, psnr = _compared(np.asarray(old), np.asarray(new))
        rows.append(
            Row(
                **vars(header),
                kind=p.kind,
                concept=p.concept,
                prompt=p.text,
                seed=p.seed,
                style_named=bool(p.style),
                target_before=was.target,
                target_after=now.target,
                kept_before=was.kept,
                kept_after=now.kept,
                style_before=was.style,
                style_after=now.style,
                identical=identical,
                psnr=psnr,
                features_before=was.features,
                features_after=now.features,
                text_score_before=was.text_score,
                text_score_after=now.text_score,
                detail=detail_of(p, was, now),
            )
        )
    return rows


def _compared(before: np.ndarray, after: np.ndarray) -> tuple[bool, float]:
    """Whether not one byte differs; PSNR in dB, infinite then."""
    error = np.square(before.astype(np.float64) - after).mean()
    return bool(error == 0), float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
