"""The commands on the embedded model, one after the other: train, find, generate, inspect."""

from __future__ import annotations

import pytest
from PIL import Image

from snce.cli import main
from snce.erase.eraser import ConceptEraser
from snce.sae.formats import load_sae


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    training = ["--captions", "1000", "--latents", "512", "--steps", "150"]
    assert main(["train", "emblem", "--out", str(folder / "run"), *training]) == 0
    found = ["--concept", "bomb", "--out", str(folder / "bomb.safetensors")]
    assert main(["find", "emblem", "--sae", str(folder / "run"), *found]) == 0
    return folder


def generate(folder, name, *options):
    """The bytes of the file, if there is one of that name."""
    assert main(["generate", "emblem", *options, "--seed", "3", "--steps", "4", "--out", str(folder / name)]) == 0
    return (folder / name).read_bytes() if (folder / name).exists() else b""


def test_training_brings_its_own_captions(folder):
    sae, origin = load_sae(folder / "run")
    assert sae.config.width == 256
    assert 800 < origin.training["prompts"] <= 1000
    assert origin.training["source"] == "emblem captions"
    assert 0 < origin.metrics["fvu"] < 1


def test_the_neuron_found_is_the_concepts(folder):
    point = ConceptEraser.load(folder / "bomb.safetensors").card["bomb"]["neurons"][0]
    assert point["recall"] >= 0.9
    assert point["false_fires"] <= 0.1


@pytest.mark.parametrize(("prompt", "changes"), [("a bomb", True), ("a violin in twemoji style", False)])
def test_the_eraser_changes_the_pictures_of_its_concept_alone(folder, capsys, prompt, changes):
    before = generate(folder, "before.png", "--prompt", prompt)
    capsys.readouterr()
    after = generate(folder, "after.png", "--prompt", prompt, "--eraser", str(folder / "bomb.safetensors"))
    assert (before != after) is changes
    assert ("yes: edited" in capsys.readouterr().out) is changes
    assert Image.open(folder / "after.png").size == (64, 64)


def test_strength_zero_on_the_command_line_leaves_the_picture(folder):
    before = generate(folder, "before.png", "--prompt", "a bomb")
    eraser = ["--eraser", str(folder / "bomb.safetensors"), "--strength", "0"]
    assert generate(folder, "after.png", "--prompt", "a bomb", *eraser) == before


def test_a_picture_does_not_depend_on_the_other_prompts_of_the_command(folder):
    one = generate(folder, "one.png", "--prompt", "a violin")
    assert generate(folder, "two.png", "--prompt", "a bomb", "--prompt", "a violin", "--separate") == b""
    assert (folder / "two-2.png").read_bytes() == one
    assert (folder / "two-1.png").read_bytes() != one


def test_inspecting_tells_what_was_made(folder, capsys):
    eraser = ConceptEraser.load(folder / "bomb.safetensors")
    assert main(["inspect", str(folder / "bomb.safetensors")]) == 0
    shown = capsys.readouterr().out
    for word in ("bomb", eraser.fingerprint, "StableDiffusionPipeline"):
        assert word in shown
    assert main(["inspect", str(folder / "run")]) == 0
    assert eraser.fingerprint in capsys.readouterr().out


def test_an_eraser_of_another_text_encoder_is_refused(studio, folder, capsys):
    arguments = ["generate", "emblem", "--prompt", "a gun", "--out", str(folder / "no.png")]
    assert main([*arguments, "--eraser", str(studio.eraser)]) == 2
    assert "fingerprint" in capsys.readouterr().err
    assert not (folder / "no.png").exists()
