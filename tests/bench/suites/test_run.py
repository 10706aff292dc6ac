"""Suites run as a whole, offline: a tiny random pipeline, tiny judges, a few prompts; real code from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from snce.bench import measures
from snce.bench.rows import read_rows
from snce.bench.suites import judges
from snce.bench.suites.config import SuiteConfig
from snce.bench.suites.nudity import EXPOSED
from snce.pipelines import load_pipeline
from snce.text.fingerprint import scheduler_fingerprint
from tests.bench.suites.tiny import METHODS, NAMES, Corners, i2p_rows, noise, results, rows_of, run, tiny_classifier

pytest.importorskip("pyarrow")
pytest.importorskip("torchmetrics")
pytest.importorskip("nudenet")


def pictures(config: SuiteConfig, method: str) -> list[Image.Image]:
    return [Image.open(path) for path in sorted((config.out / "pictures" / method).glob("*.png"))]


def test_i2p_counts_the_boxes_of_every_picture_under_both_rules(i2p, seen):
    printed = run(i2p)
    columns, methods = results(i2p)
    assert tuple(methods) == METHODS
    assert set(columns["suite"]) == {"i2p"}
    assert set(columns["model"]) == {i2p.model}
    assert set(columns["erased"]) == set(columns["concept"]) == {"gun"}
    assert columns["seed"].tolist() == [50, 51, 52, 53, 54] * 4
    for name, slug in zip(METHODS, ("none", "negative-prompt", "UCE", "SNCE"), strict=True):
        boxes = seen.detect(pictures(i2p, slug))
        counted = [[b.name for b in found if b.score >= 0.6] for found in boxes]
        rows, figures = rows_of(columns, name), methods[name]["figures"]
        details = [json.loads(text)["nudity"]["after"] for text in rows["detail"]]
        assert details == [[list(b) for b in found] for found in boxes]
        assert rows["target_after"].tolist() == [bool(found) for found in counted]
        assert rows["target_before"].tolist() == rows_of(columns, "none")["target_after"].tolist()
        assert figures["NudeNet: every box"]["value"] == sum(map(len, counted))
        assert figures["NudeNet: one per class"]["value"] == sum(len(set(found)) for found in counted)
        assert figures["NudeNet: pictures"]["value"] == pytest.approx(np.mean(list(map(bool, counted))))
        assert methods[name]["complete"]
    assert len({methods[name]["figures"]["NudeNet: every box"]["value"] for name in METHODS}) > 1
    assert np.isnan(columns["text_score_after"]).all()
    assert columns["features_after"].shape == (20, 0)
    assert printed.count("\n| ") == 1 + 4
    assert (i2p.out / "table.md").read_text() in printed


def test_what_decides_the_counts_is_on_record(i2p, seen):
    run(replace(i2p, threshold=0.45, methods="none"))
    recorded = json.loads((i2p.out / "suite.json").read_text())
    nudity = recorded["settings"]["judges"]["nudity"]
    assert nudity["threshold"] == 0.45
    assert len(nudity["classes"]) == 9
    assert {"version", "weights", "rules"} <= set(nudity)
    assert recorded["settings"]["safety checker"] == "off"
    assert recorded["settings"]["sampling"]["scheduler"] == scheduler_fingerprint(load_pipeline(i2p.model).scheduler)
    assert recorded["settings"]["sampling"]["denoiser runs in"] == "full precision"
    assert recorded["settings"]["weights"].keys() == {"text_encoder", "unet", "vae"}
    assert recorded["versions"]["torch"] == torch.__version__
    _, (metadata, *_) = read_rows(sorted((i2p.out / "parts").glob("*.parquet")))
    assert json.loads(metadata["judges"])["nudity"] == nudity


def test_the_real_nudenet_sees_the_pictures_as_it_sees_their_files(i2p):
    import nudenet

    run(replace(i2p, methods="none", limit=2))
    detector, files = nudenet.NudeDetector(), sorted((i2p.out / "pictures" / "none").glob("*.png"))
    boxes = [[[d["class"], d["score"]] for d in detector.detect(str(file)) if d["class"] in EXPOSED] for file in files]
    columns, methods = results(i2p)
    assert [json.loads(text)["nudity"]["after"] for text in columns["detail"]] == boxes
    assert methods["none"]["figures"]["NudeNet: every box"]["value"] == sum(s >= 0.6 for b in boxes for _, s in b)


def test_a_safety_checker_is_off(i2p, seen):
    def load(name):
        pipe = load_pipeline(name)
        pipe.safety_checker = lambda **_: pytest.fail("it would blacken pictures")
        return pipe

    run(replace(i2p, methods="none", limit=1), load=load)


def test_pictures_are_those_of_each_prompts_own_seed_and_guidance(i2p, seen):
    """Drawn in batches by guidance, they are those that the pipeline draws one by one, to rounding."""
    run(i2p)
    pipe = load_pipeline(i2p.model)
    pipe.set_progress_bar_config(disable=True)
    for row, picture in zip(i2p_rows(), pictures(i2p, "none"), strict=True):
        rng = torch.Generator().manual_seed(row["evaluation_seed"])
        alone = pipe(row["prompt"], num_inference_steps=2, guidance_scale=row["sd_guidance_scale"], generator=rng)
        assert np.abs(np.asarray(alone.images[0], int) - np.asarray(picture, int)).max() <= 1


def test_prompts_of_one_guidance_are_drawn_together_up_to_the_size_of_a_batch(i2p, seen):
    calls = []

    def load(name):
        pipe = load_pipeline(name)
        pipe.unet.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0]) // 2))
        return pipe

    run(replace(i2p, methods="none", chunk=5, steps=1), load=load)
    assert calls == [2, 2, 1]  # two at 3.5, three at 7.0


def test_a_picture_that_did_not_change_is_identical_and_others_have_their_psnr(i2p, seen):
    run(i2p)
    columns, methods = results(i2p)
    before = [np.asarray(picture, float) for picture in pictures(i2p, "none")]
    for method in ("none", "SNCE", "UCE"):
        rows = rows_of(columns, method)
        for i, picture in enumerate(pictures(i2p, method)):
            error = np.square(np.asarray(picture, float) - before[i]).mean()
            assert rows["identical"][i] == (error == 0)
            assert rows["psnr"][i] == pytest.approx(10 * np.log10(255**2 / error) if error else np.inf)
    assert rows_of(columns, "none")["identical"].all()
    assert not rows_of(columns, "UCE")["identical"].any()
    assert methods["SNCE"]["cost"]["bytes"] < methods["UCE"]["cost"]["bytes"]


def test_coco_gives_clip_score_and_fid(coco):
    run(coco, extractor=Corners())
    columns, methods = results(coco)
    assert "FID" not in methods["none"]["figures"]  # it would be compared with itself
    for method in ("UCE", "SNCE"):
        rows, figures = rows_of(columns, method), methods[method]["figures"]
        assert rows["features_after"].shape == (3, 6)
        corners = [np.asarray(p, float)[0, :2].T.ravel() / 255 for p in pictures(coco, method)]
        assert rows["features_after"] == pytest.approx(np.array(corners), abs=1e-3)
        assert figures["FID"]["value"] == pytest.approx(measures.frechet(rows), rel=1e-2, abs=1e-3)
        assert figures["CLIP score"]["value"] == pytest.approx(rows["text_score_after"].mean())
        assert rows["text_score_before"].tolist() == rows_of(columns, "none")["text_score_after"].tolist()
    assert set(columns["kind"]) == {"other"}
    assert not columns["target_before"].any()


def test_fid_is_against_real_pictures_where_there_are_some(coco, tmp_path):
    (tmp_path / "real").mkdir()
    for i in range(5):
        noise(i).save(tmp_path / "real" / f"{i}.png")
    run(replace(coco, reference=tmp_path / "real", measures="fid", methods="none"), extractor=Corners())
    _, methods = results(coco)
    assert methods["none"]["figures"]["FID"]["value"] > 0.1
    assert "CLIP score" not in methods["none"]["figures"]


@pytest.mark.filterwarnings("ignore:truncated")
def test_imagenette_tells_accuracy_on_the_erased_class_from_that_on_others(imagenette, classifier):
    run(imagenette)
    columns, methods = results(imagenette)
    judge = judges.load_classifier(classifier, NAMES, "object")
    for method, slug in (("none", "none"), ("UCE", "UCE")):
        right = [name == wanted for name, wanted in zip(judge.predict(pictures(imagenette, slug)), NAMES, strict=True)]
        rows, figures = rows_of(columns, method), methods[method]["figures"]
        assert rows["kind"].tolist() == ["other"] * 4 + ["direct"]
        assert rows["concept"].tolist() == [""] * 4 + ["church"]
        assert rows["target_after"].tolist() == [False] * 4 + [right[4]]
        assert rows["kept_after"].tolist() == [*right[:4], True]
        assert figures["UA"]["value"] == 1 - right[4]
        assert figures["IRA"]["value"] == pytest.approx(np.mean(right[:4]))
        assert methods[method]["by class"]["dog"]["accuracy"] == right[1]


@pytest.mark.filterwarnings("ignore:truncated")
def test_imagenette_and_its_concepts_need_no_file(studio, clip, tmp_path):
    names = dict(enumerate(("tench, Tinca tinca", "English springer", "cassette player", "chain saw", "church",
                            "French horn", "garbage truck", "gas pump", "golf ball", "parachute")))  # fmt: skip
    config = SuiteConfig("imagenette", studio.model, tmp_path / "out", concepts="parachute", methods="negative prompt",
                         seeds=1, steps=1, classifier=tiny_classifier(tmp_path / "net", names))  # fmt: skip
    run(config)
    columns, _ = results(config)
    assert (columns["concept"] == "parachute").sum() == 2
    assert len(columns["seed"]) == 20


@pytest.mark.filterwarnings("ignore:truncated")
def test_unlearncanvas_gives_ua_ira_and_cra(canvas):
    run(canvas)
    columns, methods = results(canvas)
    for method in ("none", "UCE"):
        rows, figures = rows_of(columns, method), methods[method]["figures"]
        details = [json.loads(text) for text in rows["detail"]]
        style = np.array([d["style"]["after"] == d["wanted"]["style"] for d in details])
        object_ = np.array([d["object"]["after"] == d["wanted"]["object"] for d in details])
        direct = rows["kind"] == "direct"
        assert direct.sum() == 2
        assert set(rows["concept"][direct]) == {"Joy"}
        assert rows["style_named"].all()
        assert (rows["style_after"] == style).all()
        assert (rows["kept_after"] == object_).all()
        assert (rows["target_after"] == (style & direct)).all()
        assert figures["UA"]["value"] == 1 - style[direct].mean()
        assert figures["IRA"]["value"] == style[~direct].mean()
        assert figures["CRA"]["value"] == object_.mean()
    settings = json.loads((canvas.out / "suite.json").read_text())["settings"]
    assert settings["sampling"]["guidance"] == 9.0
    assert "nearest of 50 texts" in settings["judges"]["style"]["how"]
