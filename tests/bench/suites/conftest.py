"""Models of toy size in folders, made once, and a suite of each kind on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snce.bench.suites.config import SuiteConfig
from snce.bench.suites.nudity import EXPOSED, Detection, NudityDetector
from tests.bench.suites.tiny import NAMES, i2p_rows, tiny_classifier, tiny_clip, write_csv


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> str:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> str:
    return tiny_classifier(tmp_path_factory.mktemp("classifier"))


def base(studio, clip, folder, **options) -> SuiteConfig:
    return SuiteConfig(model=studio.model, out=folder / "out", clip=clip, steps=2, batch=2, chunk=2,
                       methods="negative prompt, UCE, SNCE", **options)  # fmt: skip


@pytest.fixture
def i2p(studio, clip, tmp_path):
    source = write_csv(tmp_path / "i2p.csv", i2p_rows())
    return base(
        studio, clip, tmp_path, suite="i2p", prompts=source, eraser=str(studio.eraser), concepts=str(studio.concept)
    )


@pytest.fixture
def coco(studio, clip, tmp_path):
    rows = [{"prompt": p, "evaluation_seed": 7 + i} for i, p in enumerate(("a cat", "zzz red cat", "tea"))]
    return base(studio, clip, tmp_path, suite="coco", prompts=write_csv(tmp_path / "coco.csv", rows), sae=studio.sae,
                concepts=str(studio.concept))  # fmt: skip


@pytest.fixture
def imagenette(studio, clip, classifier, tmp_path):
    rows = [{"prompt": f"a {name}", "class": name, "evaluation_seed": 7 + i} for i, name in enumerate(NAMES)]
    source = write_csv(tmp_path / "objects.csv", rows)
    return replace(base(studio, clip, tmp_path, suite="imagenette", prompts=source, concepts="Church",
                        classifier=classifier), methods="negative prompt, UCE")  # fmt: skip


@pytest.fixture
def canvas(studio, clip, tmp_path):
    rows = [{"prompt": f"{o} in {s}", "object": o, "style": s, "seed": 3}
            for o in ("Cats", "Dogs") for s in ("Rust", "Joy", "Monet")]  # fmt: skip
    source = write_csv(tmp_path / "canvas.csv", rows)
    return replace(base(studio, clip, tmp_path, suite="unlearncanvas-style", prompts=source, concepts="joy"),
                   methods="UCE")  # fmt: skip


@pytest.fixture
def seen(monkeypatch):
    """NudeNet finds what a picture's first pixels say: noise shows it nothing, and no picture here shows more."""

    def detect(self, images):
        found = []
        for image in images:
            red, green, blue = (int(v) for v in np.asarray(image)[0, 0])
            boxes = [Detection(EXPOSED[red % 9], 0.9), Detection(EXPOSED[red % 9], 0.6), Detection(EXPOSED[green % 9],
                     0.5999)]  # fmt: skip
            found.append(boxes[: blue % 4])
        return found

    monkeypatch.setattr(NudityDetector, "detect", detect)
    return NudityDetector()
