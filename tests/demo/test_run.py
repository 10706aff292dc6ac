"""`snce demo` on the embedded model, with fewer captions, steps and pictures: what it writes, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial, wraps

import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image

from snce.cli import main
from snce.demo import laboratory, pictures, prompts, table
from snce.demo.grid import CHANGED, SAME, TILE
from snce.erase.eraser import ConceptEraser
from snce.neurons.scores import RULES
from snce.sae.model import SparseAutoencoder

SIZES = {"direct": 4, "pairs": 4, "retain": 4}
ASKED = {"concept", "neuron", "score", "strength", "base_rate", "erased_rate", "retention", "identical",
         "pair_target_gone", "pair_partner_kept", "sae_fvu", "sae_dead", "eraser_bytes", "seconds"}  # fmt: skip
SHARES = ("score", "base_rate", "erased_rate", "erased", "retention", "identical", "pair_base_rate",
          "pair_target_gone", "pair_partner_kept", "sae_fvu", "sae_dead")  # fmt: skip
OPTIONS = ("--captions", "1500")


@pytest.fixture(scope="module", autouse=True)
def small():
    """What has no option of its own, made smaller."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratory, "SAE", replace(laboratory.SAE, latents=512))
        patch.setattr(laboratory, "TRAINING", replace(laboratory.TRAINING, steps=200))
        patch.setattr(prompts, "test_set", partial(prompts.test_set, **SIZES))
        patch.setattr(table, "SIZES", SIZES)
        patch.setattr(pictures, "BATCH", 4)
        yield


@pytest.fixture(scope="module")
def calls():
    """The prompts of every call that encodes some, and whether something was attached to it."""
    seen, original = [], StableDiffusionPipeline.encode_prompt

    @wraps(original)
    def counting(self, prompt=None, *args, **kwargs):
        encoded = original(self, prompt, *args, **kwargs)  # it does not come back where only tokens are asked for
        if prompt is not None:  # the pipeline itself asks once more, with the embeddings in hand
            seen.append((tuple(prompt), "encode_prompt" in vars(self)))
        return encoded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StableDiffusionPipeline, "encode_prompt", counting)
        yield seen


@pytest.fixture(scope="module")
def demo(tmp_path_factory, calls):
    """The folder of a run on one concept."""
    folder = tmp_path_factory.mktemp("demo")
    calls.clear()
    assert main(["demo", "--concept", "water pistol", "--out", str(folder), *OPTIONS]) == 0
    return folder


@pytest.fixture(scope="module")
def report(demo):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((demo / "report.json").read_text(), parse_constant=refuse)


def test_the_report_has_all_that_is_asked_for(report):
    assert set(report) >= ASKED
    assert report["concept"] == "water pistol"
    assert set(report["seconds"]) >= {"load", "harvest", "train", "find", "draw", "judge"}
    assert all(seconds >= 0 for seconds in report["seconds"].values())


def test_shares_lie_between_zero_and_one_or_are_of_nothing(report):
    for name in SHARES:
        assert report[name] is None or 0 <= report[name] <= 1, name
    for name in ("base_rate", "erased_rate", "identical", "sae_fvu", "sae_dead", "score"):
        assert report[name] is not None, name


def test_the_report_agrees_with_the_eraser(demo, report):
    file = demo / "water-pistol.safetensors"
    eraser = ConceptEraser.load(file)
    entry = eraser.card["water pistol"]["neurons"][0]
    assert eraser.concepts == ("water pistol",)
    assert report["eraser_bytes"] == file.stat().st_size
    assert report["strength"] == pytest.approx(float(eraser.neurons.strength[0]))
    assert report["threshold"] == pytest.approx(float(eraser.neurons.threshold[0]))
    assert (report["neuron"], report["score"]) == (entry["neuron"], entry["score"])


def test_the_picture_shows_a_frame_for_every_prompt_in_the_colour_of_the_report(demo, report):
    with Image.open(demo / "grid.png") as image:
        assert image.width > 4 * TILE
        colours = {colour: n for n, colour in image.convert("RGB").getcolors(1 << 24)}
    assert len(colours) > 1000
    frame = (TILE + 4) ** 2 - TILE**2  # its pixels: it is two wide
    same, changed = colours.get(SAME, 0) / frame, colours.get(CHANGED, 0) / frame
    assert same + changed == pytest.approx(12, rel=0.05)
    assert round(same) >= report["identical"] * SIZES["retain"]
    assert round(changed) >= SIZES["direct"] - 1


def test_every_prompt_is_drawn_before_and_after(demo, calls):
    tests = prompts.test_set("water pistol")
    once = [p.text for group in (tests.direct, tests.pairs, tests.retain) for p in group]
    for attached in (False, True):
        assert [text for call, mark in calls if mark is attached for text in call] == once


def test_nothing_is_left_beside_the_results(demo):
    assert {p.name for p in demo.iterdir()} == {
        "grid.png", "report.json", "water-pistol.safetensors", "sae-checkpoint.safetensors",
    }  # fmt: skip


def test_a_rule_that_there_is_not_is_answered_by_those_that_there_are(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--out", str(tmp_path), "--rule", "loudest"])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert all(f"'{name}'" in message for name in ("loudest", *RULES))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--concept", "unicorn horn"], "unicorn horn"),
        (["--concepts", "bomb,unicorn horn"], "unicorn horn"),
        (["--concepts", ","], "no concepts"),
    ],
)
def test_bad_input_is_refused_before_any_work(tmp_path, capsys, calls, monkeypatch, arguments, named):
    built = []
    original = SparseAutoencoder.__init__
    monkeypatch.setattr(SparseAutoencoder, "__init__", lambda self, *a: built.append(a) or original(self, *a))
    before = len(calls)
    assert main(["demo", "--out", str(tmp_path), *arguments]) == 2
    message = capsys.readouterr().err
    assert named in message
    assert len(message.strip().splitlines()) == 1
    assert built == []
    assert len(calls) == before
    assert list(tmp_path.iterdir()) == []


def test_a_table_goes_on_where_it_was_stopped(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(laboratory, "TRAINING", replace(laboratory.TRAINING, steps=60))

    def run(concepts):
        calls.clear()
        assert main(["demo", "--concepts", concepts, "--out", str(tmp_path), "--captions", "400"]) == 0
        return {text for call, _ in calls for text in call}

    def texts(concept):
        tests = prompts.test_set(concept)
        return {p.text for p in (*tests.direct, *tests.pairs, *tests.retain)}

    assert run("bomb") == texts("bomb")
    kept = json.loads((tmp_path / "concepts.json").read_text())["rows"]
    assert run("bomb,violin") == texts("violin")
    rows = json.loads((tmp_path / "concepts.json").read_text())["rows"]
    assert repr(rows[:1]) == repr(kept)
    assert [row["concept"] for row in rows] == ["bomb", "violin"]
    for row in rows:
        for name in ("erased", "retention", "identical", "pair_target_gone", "pair_partner_kept"):
            assert row[name] != row[name] or 0 <= row[name] <= 1
    lines = (tmp_path / "concepts.md").read_text()
    assert run("bomb,violin") == set()
    assert (tmp_path / "concepts.md").read_text() == lines
    assert "| bomb |" in lines
    assert "| violin |" in lines


def test_a_damaged_table_is_one_clear_line_and_stays(calls, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(laboratory, "TRAINING", replace(laboratory.TRAINING, steps=10))
    path = tmp_path / "concepts.json"
    for text in ("", "[]", '{"rows": ['):
        path.write_text(text)
        assert main(["demo", "--concepts", "bomb", "--out", str(tmp_path), "--captions", "100"]) == 2
        assert "concepts.json is damaged" in " ".join(capsys.readouterr().err.split())
        assert path.read_text() == text
