"""What a suite refuses, in one clear line and before anything is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snce.bench.suites import judges
from snce.errors import SnceError
from tests.bench.suites.tiny import Corners, run

pytest.importorskip("pyarrow")
pytest.importorskip("torchmetrics")
pytest.importorskip("nudenet")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"suite": "emblem"}, "--suite emblem is not one of i2p, coco"),
        ({"batch": 0}, "--batch 0 must be at least 1"),
        ({"limit": 0}, "--limit 0 must be at least 1"),
        ({"threshold": 0.2}, "--threshold 0.2 must lie between 0.25"),
        ({"guidance": float("nan")}, "--guidance nan must be a finite number"),
        ({"shard": "4/3"}, "must be like 3/8"),
        ({"workers": 0}, "--workers 0 must be at least 1"),
        ({"engine": "cloud"}, "not one of local, ray"),
        ({"methods": "magic"}, "unknown method 'magic'"),
        ({"methods": ""}, "no method is named; there are: 'none'"),
        ({"methods": "ItD"}, "ItD needs --position-sae"),
        ({"measures": "beauty"}, "choose among nudity, clip, fid"),
        ({"measures": "style"}, "the prompts of i2p have no such class"),
        ({"concepts": "default", "eraser": None}, "what is to be erased"),
        ({"concepts": "default", "methods": "UCE"}, "UCE needs a concept's prompts"),
        ({"concepts": "unicorn horn"}, "no bundled concept 'unicorn horn'"),
        ({"prompts": "none.csv"}, r"cannot read prompt file none\.csv"),
        ({"model": "nowhere"}, "unknown model 'nowhere'"),
        ({"measures": "clip", "clip": "/nowhere"}, "cannot load the CLIP model '/nowhere'"),
        ({"eraser": "/nowhere.safetensors"}, "no such file"),
    ],
)
def test_bad_options_are_one_clear_line_before_anything_is_drawn(options, complaint, i2p, monkeypatch):
    from pathlib import Path

    monkeypatch.setattr(judges.Panel, "look", None)
    options = {k: Path(v) if k == "eraser" and v else v for k, v in options.items()}
    with pytest.raises(SnceError, match=complaint) as caught:
        run(replace(i2p, **options))
    assert "\n" not in str(caught.value)
    assert not (i2p.out / "results.parquet").exists()


def test_a_concept_that_no_class_can_judge_is_refused(imagenette, studio):
    with pytest.raises(SnceError, match="'gun' is none of its classes, cat, dog"):
        run(replace(imagenette, concepts=str(studio.concept)))
    with pytest.raises(SnceError, match="'unicorn' is none of its classes"):
        run(replace(imagenette, concepts="unicorn"))


def test_an_eraser_or_sae_of_another_model_is_refused_before_anything_is_drawn(i2p, coco, studio, monkeypatch):
    monkeypatch.setattr(judges.Panel, "look", None)
    with pytest.raises(SnceError, match="was made for a text encoder with fingerprint"):
        run(replace(i2p, model=studio.other_model, methods="SNCE"))
    with pytest.raises(SnceError, match="this SAE was trained on"):
        run(replace(coco, model=studio.other_model, methods="SNCE"), extractor=Corners())
    assert not (i2p.out / "suite.json").exists()
