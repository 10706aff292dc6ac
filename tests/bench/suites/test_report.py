"""The report of a suite: one file with all that a reader needs, and no picture that may be harmful to look at."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from snce.bench.suites.page import MOST, SIDE, examples
from snce.bench.suites.plot import plot_figures
from tests.bench.suites.tiny import PROMPTS, Corners, i2p_rows, run, write_csv

pytest.importorskip("pyarrow")
pytest.importorskip("torchmetrics")

STRIP = re.compile(r"<details><summary>(.*?)</summary>(.*?)</details>", re.DOTALL)


def report_of(config) -> str:
    return (config.out / "report.html").read_text(encoding="utf-8")


def without_pictures(report: str) -> str:
    return re.sub(r"base64,[^\"]*", "", report)


def prompts_of(body: str) -> str:
    return body.split("<figcaption>")[1].split("</figcaption>")[0]


def picture_of(body: str) -> Image.Image:
    data = body.split("base64,")[1].split('"')[0]
    return Image.open(BytesIO(base64.b64decode(data))).convert("RGB")


def test_it_has_the_table_what_was_run_and_a_strip_of_each_method_in_one_file(coco):
    run(coco, extractor=Corners())
    report = report_of(coco)
    assert "http" not in without_pictures(report)
    assert set(re.findall(r'(?:src|href)="(.{10})', report)) == {"data:image"}
    assert [method for method, _ in STRIP.findall(report)] == ["negative prompt", "UCE", "SNCE"]
    assert report.count("<img") == 3
    for name in ("none", "negative prompt", "UCE", "SNCE"):
        assert f"<td>{name}</td>" in report
    suite = json.loads((coco.out / "suite.json").read_text())
    judge = suite["settings"]["judges"]["clip"]
    for name, value in (("suite", "coco"), ("model", coco.model), ("erased", "gun"), ("sampling, steps", "2"),
                        ("judges, clip, library", judge["library"]), ("judges, clip, model", judge["model"]),
                        ("versions, torch", suite["versions"]["torch"])):  # fmt: skip
        assert f"<tr><th>{name}</th><td>{value}</td></tr>" in report
    assert "<tr><th>UCE</th><td>UCE(erase_weight=1.0" in report


def test_a_strip_has_the_base_models_pictures_above_the_methods(coco):
    run(replace(coco, methods="negative prompt"), extractor=Corners())
    [(_, body)] = STRIP.findall(report_of(coco))
    assert prompts_of(body) == "a cat | zzz red cat | tea"
    strip = picture_of(body)
    columns, rows = ([n * (SIDE + 4) for n in range(count)] for count in (3, 2))
    assert strip.size == (columns[-1] + SIDE, rows[-1] + SIDE)
    for method, top in zip(("none", "negative-prompt"), rows, strict=True):
        for i, left in enumerate(columns):
            shown = strip.crop((left, top, left + SIDE, top + SIDE))
            drawn = Image.open(coco.out / "pictures" / method / f"{i:06d}.png")
            assert np.abs(np.subtract(shown, ImageOps.contain(drawn, (SIDE, SIDE)), dtype=float)).mean() < 10


def test_it_is_written_anew_when_a_run_goes_on(coco):
    run(replace(coco, methods="UCE", shard="1/2"), extractor=Corners())
    [(method, body)] = STRIP.findall(report_of(coco))
    assert (method, prompts_of(body)) == ("UCE", "a cat | zzz red cat")
    assert "<td>2 of 3</td>" in report_of(coco)
    run(coco, extractor=Corners())
    found = STRIP.findall(report_of(coco))
    assert [method for method, _ in found] == ["negative prompt", "UCE", "SNCE"]
    assert {prompts_of(body) for _, body in found} == {"a cat | zzz red cat | tea"}
    assert "2 of 3" not in report_of(coco)


def test_pictures_that_are_not_there_are_not_shown(coco):
    """As where the rows of another machine were copied, and its pictures were not."""
    run(coco, extractor=Corners())
    shutil.rmtree(coco.out / "pictures" / "UCE")
    (coco.out / "pictures" / "SNCE" / "000001.png").write_bytes(b"broken")
    run(coco, extractor=Corners())
    found = dict(STRIP.findall(report_of(coco)))
    assert found["UCE"] == "<p>Its pictures are not in this folder.</p>"
    assert prompts_of(found["SNCE"]) == "a cat | tea"
    assert prompts_of(found["negative prompt"]) == "a cat | zzz red cat | tea"


@pytest.mark.parametrize("measures", ["nudity", "clip", "nudity, clip"])
def test_pictures_of_i2p_are_not_in_it_whoever_judges_them(i2p, seen, measures):
    run(replace(i2p, measures=measures))
    hidden(i2p, "the prompts of i2p ask for what may be harmful to look at")
    assert ("NudeNet: pictures against CLIP score" in report_of(i2p)) == (measures == "nudity, clip")


def test_pictures_that_are_judged_for_nudity_are_not_in_it(coco, seen):
    run(replace(coco, measures="nudity"))
    hidden(coco, "they are judged for nudity")


def test_pictures_of_i2ps_prompts_are_not_in_it_under_the_name_of_another_suite(coco, i2p):
    run(replace(coco, prompts=i2p.prompts, measures="clip"))
    hidden(coco, "their prompts have categories")


def test_prompts_without_a_category_do_not_uncover_the_others(coco, tmp_path):
    rows = [{**row, "categories": "shocking" if i == 3 else ""} for i, row in enumerate(i2p_rows())]
    source = write_csv(tmp_path / "some.csv", rows)
    run(replace(coco, prompts=source, measures="clip"))
    hidden(coco, "their prompts have categories")


def hidden(config, why: str) -> None:
    report = report_of(config)
    assert f"<p>None are shown: {why}" in report
    assert "image/webp" not in report
    assert not STRIP.findall(report)
    assert not any(prompt in without_pictures(report) for prompt in PROMPTS)
    assert "<td>UCE</td>" in report


@pytest.mark.filterwarnings("ignore:truncated")
def test_what_is_erased_is_plotted_against_what_is_kept(imagenette):
    run(imagenette)
    report = report_of(imagenette)
    assert "<figcaption>UA against IRA, with 95 % intervals.</figcaption>" in report
    assert report.count("image/png") == 1
    assert Image.open(imagenette.out / "trade-off.png").width > 500
    [(_, body), _] = STRIP.findall(report)
    assert prompts_of(body) == "a church | a cat | a dog | a hat | a tabby"  # first what asks for the erased class


def test_a_plot_needs_two_figures_that_are_told(tmp_path):
    path = tmp_path / "plot.png"
    nothing = dict.fromkeys(("value", "low", "high"), float("nan"))
    told = {"value": 0.3, "low": 0.30000000000000004, "high": 0.5}  # a rounding error on the wrong side
    for figures in ({"UA": told}, {"UA": told, "IRA": nothing}, {"CLIP score": told, "FID": nothing}):
        assert plot_figures({"none": {"figures": figures}}, path) == ""
        assert not path.exists()
    assert plot_figures({"none": {"figures": {"UA": told, "IRA": told}}, "UCE": {"figures": {"UA": told}}}, path)
    assert Image.open(path).width > 500


@pytest.mark.parametrize(("direct", "others", "first"), [(30, 30, 3), (0, 30, 0), (30, 1, 5), (2, 30, 2), (1, 1, 1)])
def test_prompts_to_show_are_half_of_the_erased_and_spread_evenly(direct, others, first):
    kinds = np.array(["other"] * others + ["direct"] * direct)
    numbers = [100 + i for i in range(len(kinds))]
    chosen = examples({"kind": kinds, "prompt": np.array([f"p{n}" for n in numbers])}, numbers)
    assert len(chosen) == min(MOST, direct + others)
    shown = [kinds[e.number - 100] for e in chosen]
    assert shown == ["direct"] * first + ["other"] * (len(chosen) - first)
    assert all(e.text == f"p{e.number}" for e in chosen)
    if first == 3:
        assert [e.number - 100 for e in chosen] == [30, 40, 50, 0, 10, 20]
