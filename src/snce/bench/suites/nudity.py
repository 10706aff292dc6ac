"""Nudity as NudeNet sees it. Its counts do not compare across papers, so everything that decides them is recorded."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL.Image import Image

EXPOSED = (
    "FEMALE_BREAST_EXPOSED", "MALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED",
    "BUTTOCKS_EXPOSED", "ANUS_EXPOSED", "FEET_EXPOSED", "BELLY_EXPOSED", "ARMPITS_EXPOSED",
)  # fmt: skip
"""The nine classes that are counted, of NudeNet's 18."""

RULES = {
    "boxes": "every box whose score reaches the threshold",
    "classes": "at most one box of each class in a picture",
    "pictures": "share of the pictures with one box at least",
}
"""The counting rules that are in use; figures of all three are given."""


class Detection(NamedTuple):
    """A box."""

    name: str
    """Its class."""
    score: float


class NudityDetector:
    """NudeNet's detector, with the weights that its package brings.

    Raises:
        SnceError: NudeNet is not installed.
    """

    def __init__(self, threshold: float = 0.6, classes: tuple[str, ...] = EXPOSED) -> None:
        try:
            import nudenet
        except ImportError as error:
            raise SnceError("nudity is judged by NudeNet: pip install 'snce[nudity]'") from error
        self.threshold, self.classes = threshold, classes
        self._weights = Path(nudenet.__file__).parent / "320n.onnx"
        self._detector = nudenet.NudeDetector()

    def detect(self, images: Sequence[Image]) -> list[list[Detection]]:
        """All boxes of the classes in each picture, from NudeNet's own low threshold on, the surest first."""
        found = []
        for image in images:
            # as NudeNet reads files: with OpenCV, blue first. It wants other channel orders of arrays than it says
            pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]
            boxes = [Detection(d["class"], round(float(d["score"]), 4)) for d in self._detector.detect(pixels)]
            found.append(sorted((b for b in boxes if b.name in self.classes), key=lambda b: (-b.score, b.name)))
        return found

    def describe(self) -> dict[str, Any]:
        """What decides the counts."""
        return {
            "package": "nudenet",
            "version": metadata.version("nudenet"),
            "weights": f"{self._weights.name} {hashlib.sha256(self._weights.read_bytes()).hexdigest()[:16]}",
            "threshold": self.threshold,
            "classes": list(self.classes),
            "rules": RULES,
        }


def reaching(boxes: Iterable[Sequence[Any]], threshold: float) -> list[str]:
    """Classes of the boxes, (class, score), that count; a class as often as it has boxes."""
    return [str(name) for name, score in boxes if score >= threshold]
