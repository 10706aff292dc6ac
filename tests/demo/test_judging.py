"""Judging without drawing a picture twice gives the same bytes as drawing all of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import wraps

import pytest
import torch
from diffusers import StableDiffusionPipeline

from snce.demo import pictures
from snce.demo.judging import judge_eraser, pictures_after, pictures_before
from snce.demo.measure import Pictures, outcome
from snce.demo.prompts import test_set as make_test_set

BATCH = 4
"""Pictures per call: fewer than the package's, as there are few."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(pictures, "BATCH", BATCH)


@pytest.fixture
def calls(monkeypatch):
    """The prompts of every call that encodes some."""
    seen, original = [], StableDiffusionPipeline.encode_prompt

    @wraps(original)
    def counting(self, prompt=None, *args, **kwargs):
        encoded = original(self, prompt, *args, **kwargs)  # it does not come back where only tokens are asked for
        if prompt is not None:  # the pipeline itself asks once more, with the embeddings in hand
            seen.append(prompt)
        return encoded

    monkeypatch.setattr(StableDiffusionPipeline, "encode_prompt", counting)
    return seen


@pytest.fixture(scope="module")
def eraser(laboratory, trained):
    return laboratory.eraser(trained.sae, "bomb", 2.0)


@pytest.fixture(scope="module")
def tests():
    return make_test_set("bomb", direct=1, pairs=2, retain=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def before(laboratory, tests, folder):
    """Drawn once for all tests of this file."""
    return pictures_before(laboratory, tests, folder)


def same(a: Pictures, b: Pictures) -> bool:
    return all(torch.equal(vars(a)[group], vars(b)[group]) for group in vars(a))


def drawn_anew(lab, tests) -> Pictures:
    everything = pictures.draw(lab.pipe, [*tests.direct, *tests.pairs, *tests.retain])
    return Pictures(*everything.split([len(tests.direct), len(tests.pairs), len(tests.retain)]))


def test_pictures_after_are_those_that_the_pipeline_draws_with_the_eraser_on(laboratory, tests, before, eraser, calls):
    after = pictures_after(laboratory, tests, before, eraser)
    redrawn = {text for call in calls for text in call}
    with eraser.attach(laboratory.pipe):
        assert same(after, drawn_anew(laboratory, tests))
    assert {p.text for p in (*tests.direct, *tests.pairs)} <= redrawn
    assert not redrawn & {p.text for p in tests.retain}, "an eraser that fires here does not test the copying"
    assert not torch.equal(after.direct, before.direct)
    assert torch.equal(after.retain, before.retain)


def test_an_eraser_that_does_nothing_draws_nothing(laboratory, tests, before, eraser, calls):
    calls.clear()
    assert same(pictures_after(laboratory, tests, before, eraser.with_strength(0)), before)
    assert calls == []


def test_the_pictures_before_are_not_changed_by_those_after(laboratory, tests, before, eraser):
    kept = copy.deepcopy(before)
    pictures_after(laboratory, tests, before, eraser)
    assert same(before, kept)


def test_the_outcome_is_that_of_its_pictures(laboratory, tests, before, eraser, folder):
    after = pictures_after(laboratory, tests, before, eraser)
    assert repr(judge_eraser(laboratory, tests, eraser, folder)) == repr(
        outcome(tests, before, after, laboratory.judge)
    )


def test_pictures_before_come_from_the_folder_the_second_time(laboratory, tests, folder, before, calls):
    calls.clear()
    assert same(pictures_before(laboratory, tests, folder), before)
    assert calls == []


def test_other_prompts_or_seeds_are_drawn_anew(laboratory, tests, folder, before, calls, tmp_path):
    stored = tmp_path / "bomb.safetensors"
    for other in (
        replace(tests, direct=(replace(tests.direct[0], seed=999),)),
        replace(tests, direct=(replace(tests.direct[0], text="a bomb here"),)),
    ):
        stored.write_bytes((folder / "bomb.safetensors").read_bytes())
        calls.clear()
        again = pictures_before(laboratory, other, tmp_path)
        assert calls
        assert not torch.equal(again.direct, before.direct)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_other_weights_are_drawn_anew(laboratory, tests, folder, before, calls, tmp_path, part):
    (tmp_path / "bomb.safetensors").write_bytes((folder / "bomb.safetensors").read_bytes())
    weights = copy.deepcopy(getattr(laboratory.pipe, part))
    with torch.no_grad():
        for weight in weights.parameters():
            weight.mul_(1.1)
    other = copy.copy(laboratory)
    other.__dict__.pop("fingerprint", None)
    other.pipe = StableDiffusionPipeline(**{**laboratory.pipe.components, part: weights}, requires_safety_checker=False)
    other.pipe.set_progress_bar_config(disable=True)
    few = replace(tests, pairs=(), retain=())
    kept = pictures_before(laboratory, few, tmp_path)
    calls.clear()
    assert not torch.equal(pictures_before(other, few, tmp_path).direct, kept.direct)
    assert calls


def test_a_concept_without_pairs_has_no_pictures_of_pairs(laboratory, trained, tmp_path):
    tests = make_test_set("flat", direct=1, pairs=1, retain=2)
    before = pictures_before(laboratory, tests, tmp_path)
    assert before.pairs.shape == (0, 3, 64, 64)
    after = pictures_after(laboratory, tests, before, laboratory.eraser(trained.sae, "flat", 2.0))
    assert after.pairs.shape == (0, 3, 64, 64)
