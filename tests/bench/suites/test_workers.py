"""Suites in workers: the parts and pictures of one process, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from snce.bench.rows import read_metadata
from snce.bench.suites.execute import _Worker
from snce.bench.suites.parts import Part
from snce.bench.suites.prepare import prepare
from snce.errors import SnceError
from snce.pipelines import load_pipeline
from tests.bench.suites.tiny import Corners, results, run, same

pytest.importorskip("pyarrow")
pytest.importorskip("torchmetrics")


@pytest.fixture
def worker(coco, monkeypatch):
    """A worker in this process, to be begun."""
    run(replace(coco, methods="none", limit=1), extractor=Corners())
    monkeypatch.chdir(coco.out.parent)  # it goes where it is told to, and back afterwards
    monkeypatch.setattr(_Worker, "work", None, raising=False)
    return _Worker


def figures(methods):
    return {name: {key: told for key, told in method.items() if key != "cost"} for name, method in methods.items()}


def test_two_workers_write_what_one_process_writes(coco, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of files may be relative: they are on record as they were given
    near = replace(coco, chunk=1, prompts="coco.csv", out=Path("near"))
    far = replace(near, workers=2, out=Path("far"))
    for config in (near, far):
        run(config, extractor=Corners())
    (rows, methods), (their_rows, their_methods) = results(near), results(far)
    assert same(rows, their_rows)
    assert repr(figures(methods)) == repr(figures(their_methods))  # by their text, since some are NaN
    names = [sorted(str(p.relative_to(c.out)) for p in c.out.rglob("*") if p.is_file()) for c in (near, far)]
    assert names[0] == names[1]
    for name in names[0]:
        paths = near.out / name, far.out / name
        if name.endswith(".png"):
            assert paths[0].read_bytes() == paths[1].read_bytes()
        elif name.startswith("parts"):
            told = [{k: v for k, v in read_metadata(path).items() if k != "cost"} for path in paths]
            assert told[0] == told[1]
    assert len([name for name in names[0] if name.endswith(".png")]) == 4 * 3
    settings = [json.loads((config.out / "suite.json").read_text()) for config in (near, far)]
    assert settings[0] == settings[1]


def test_a_worker_fits_a_method_once_for_all_its_parts(coco, monkeypatch):
    from snce.bench.methods.uce import UCE

    fitted, prepare_ = [], UCE.prepare
    monkeypatch.setattr(UCE, "prepare", lambda *a, **k: fitted.append(1) or prepare_(*a, **k))
    work, _ = prepare(replace(coco, methods="UCE", chunk=1), load_pipeline, Corners())
    for name in ("none", "UCE"):
        for i in range(3):
            work.do(Part(name, i, i + 1))
    assert len(fitted) == 1


def test_a_worker_that_does_not_see_the_folder_says_so(worker, coco, tmp_path):
    with pytest.raises(SnceError, match=r"nothing in .*elsewhere: --out must be a folder that all see"):
        worker.start(replace(coco, out=tmp_path / "elsewhere"), tmp_path, load_pipeline, Corners())
    assert not (tmp_path / "elsewhere").exists()


def test_a_worker_with_another_model_or_concept_is_refused(worker, coco, studio, tmp_path):
    config = replace(coco, methods="UCE", limit=1)

    def load(_):
        return load_pipeline(studio.other_model)

    with pytest.raises(SnceError, match="another run; it differs in weights"):
        worker.start(config, tmp_path, load, Corners())
    worker.start(config, tmp_path, load_pipeline, Corners())
    with pytest.raises(SnceError, match="another concept, SAE or eraser for 'UCE'"):
        worker.do(Part("UCE", 0, 1), "0" * 16)
    assert worker.do(Part("UCE", 0, 1), worker.work.inputs["UCE"]) == Part("UCE", 0, 1)
    assert (coco.out / "parts" / "UCE__000000.parquet").exists()
