"""Bad input on the command line: one line that says what to do, exit code 2, and nothing lost."""

from __future__ import annotations

from shutil import copy

import pytest
import torch
from safetensors.torch import save_file

from snce.cli import main
from snce.emblem.vocabulary import vocabulary
from tests.examples import tiny_pipeline
from tests.studio import find, generate, train


@pytest.fixture
def complaint(capsys):
    """Run a command that must fail for bad input, and return the one line that it prints about it."""

    def run(arguments: list[str]) -> str:
        capsys.readouterr()
        assert main(arguments) == 2
        errors = capsys.readouterr().err
        lines = [line for line in errors.splitlines() if line]
        assert len(lines) == 1, errors
        assert lines[0].startswith("error: ")
        return lines[0]

    return run


def test_prompt_files_that_are_missing_empty_or_lack_the_column(studio, tmp_path, complaint):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "p.csv").write_text("caption\na cat\n")
    out = tmp_path / "run"
    assert "cannot read prompt file" in complaint(train(studio, out, prompts=str(tmp_path / "missing.txt")))
    assert "holds no prompts" in complaint(train(studio, out, prompts=str(tmp_path / "empty.txt")))
    assert "no column 'text'; it has caption" in complaint(train(studio, out, prompts=f"{tmp_path}/p.csv:text"))
    assert "too few" in complaint(train(studio, out, prompts=f"{tmp_path}/p.csv:caption"))
    assert "no prompts to train on" in complaint(["train", studio.model, "--out", str(out)])


def test_values_that_make_no_sense(studio, tmp_path, complaint):
    assert "--steps 0 must be at least 1" in complaint(train(studio, tmp_path, "--steps", "0"))
    assert "--k 99 must not pass --latents 48" in complaint(train(studio, tmp_path, "--k", "99"))
    assert "--lr nan" in complaint(train(studio, tmp_path, "--lr", "nan"))
    assert "--strength -1" in complaint(find(studio, tmp_path / "e.safetensors", "--strength", "-1"))
    assert "must end in .png" in complaint(generate(studio, tmp_path / "x.jpg", "a cat"))
    draw = generate(studio, tmp_path / "x.png", "a cat")
    assert "give --height and --width together" in complaint([*draw, "--height", "16"])
    assert "divisible by 8" in complaint([*draw, "--height", "9", "--width", "9"])
    for option in (("--strength", "1"), ("--allow-mismatch",)):
        assert "are for erasers: give --eraser FILE" in complaint([*draw, *option])
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("device", ["warp", "meta", "cuda:9999", ""])
def test_devices_that_are_none(studio, tmp_path, complaint, device):
    for command in (
        train(studio, tmp_path / "run"),
        find(studio, tmp_path / "gun.safetensors"),
        generate(studio, tmp_path / "x.png", "a cat"),
    ):
        assert "is none that can be used here" in complaint([*command, "--device", device])
    assert not list(tmp_path.glob("*.*"))


def test_models_that_are_none(studio, tmp_path, complaint):
    arguments = generate(studio, tmp_path / "x.png", "a cat")
    for model, says in (
        (str(tmp_path / "nowhere"), "unknown model"),
        (str(tmp_path), "it has no model_index.json"),
        (str(studio.prompts), "is a file"),
        ("mistyped", "unknown model 'mistyped'"),
    ):
        assert says in complaint([arguments[0], model, *arguments[2:]])


def test_a_model_with_damaged_weights(studio, tmp_path, complaint):
    tiny_pipeline(0).save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot load model" in complaint(
        generate(studio, tmp_path / "x.png", "a cat", model=str(tmp_path / "model"))
    )


def test_a_model_that_is_only_to_be_had_as_pickle_is_not_unpickled(studio, tmp_path, complaint):
    pipe = tiny_pipeline(0)
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "text_encoder" / "model.safetensors").unlink()
    torch.save(pipe.text_encoder.state_dict(), tmp_path / "model" / "text_encoder" / "pytorch_model.bin")
    assert "cannot load model" in complaint(
        generate(studio, tmp_path / "x.png", "a cat", model=str(tmp_path / "model"))
    )


def test_a_concept_without_targets(studio, tmp_path, complaint):
    (tmp_path / "c.yaml").write_text("name: gun\nneutrals: [a cat, a dog]\n")
    out = tmp_path / "e.safetensors"
    assert "'gun' has no target prompts" in complaint(find(studio, out, concept=str(tmp_path / "c.yaml")))
    (tmp_path / "c.yaml").write_text("name: gun\ntargets: [a gun]\nneutrals: [a cat, a dog]\n")
    assert "one prompt among its targets" in complaint(find(studio, out, concept=str(tmp_path / "c.yaml")))
    assert not out.exists()


def test_an_sae_or_eraser_of_another_text_encoder(studio, tmp_path, complaint):
    message = complaint(find(studio, tmp_path / "e.safetensors", model=studio.other_model))
    assert "this SAE was trained on" in message
    arguments = generate(studio, tmp_path / "x.png", "a cat", erasers=(studio.eraser,), model=studio.other_model)
    assert "was made for a text encoder with fingerprint" in complaint(arguments)
    assert not (tmp_path / "x.png").exists()
    assert main([*arguments, "--allow-mismatch"]) == 0


def test_truncated_and_foreign_files(studio, tmp_path, complaint):
    cut, foreign = tmp_path / "cut.safetensors", tmp_path / "foreign.safetensors"
    cut.write_bytes(studio.eraser.read_bytes()[:-40])
    save_file({"x": torch.zeros(2)}, foreign)
    for file, says in ((cut, "truncated"), (foreign, "no format"), (tmp_path / "missing.safetensors", "no such file")):
        assert says in complaint(generate(studio, tmp_path / "x.png", "a cat", erasers=(file,)))
        assert says in complaint(["inspect", str(file)])
    assert "no SAE in" in complaint([*find(studio, tmp_path / "e.safetensors"), "--sae", str(tmp_path)])


def test_a_folder_in_the_place_of_a_file(studio, tmp_path, complaint):
    command = [*generate(studio, tmp_path / "x.png", "a cat"), "--eraser", str(tmp_path)]
    assert f"{tmp_path} is a folder; give the path of a file" in complaint(command)


def test_a_folder_with_several_saes_of_one_tower_is_no_choice(studio, tmp_path, complaint):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        copy(studio.sae / "sae.safetensors", tmp_path / name)
    command = ["find", studio.model, "--sae", str(tmp_path), "--concept", str(studio.concept)]
    told = complaint([*command, "--out", str(tmp_path / "x.safetensors")])
    assert f"give --sae one of {tmp_path / 'new'} and {tmp_path / 'old'}" in told


def test_an_output_that_cannot_be_written_is_noticed_before_any_work(studio, tmp_path, complaint):
    (tmp_path / "file").write_text("kept")
    inside = tmp_path / "file" / "sub"
    for arguments in (
        train(studio, inside),
        find(studio, inside / "e.safetensors"),
        generate(studio, inside / "x.png", "a"),
    ):
        # the model is not even looked at
        assert "cannot write" in complaint([arguments[0], "no-such-model", *arguments[2:]])
    assert (tmp_path / "file").read_text() == "kept"
    assert "it is a folder" in complaint(generate(studio, tmp_path, "a"))


def test_another_training_in_the_folder_is_not_overwritten(studio, tmp_path, complaint):
    assert main(train(studio, tmp_path)) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert "belongs to another training" in complaint(train(studio, tmp_path, "--seed", "0", "--lr", "0.01"))
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.safetensors")}


def test_memory_that_runs_out_is_bad_input_too(studio, tmp_path, complaint):
    assert "not enough memory" in complaint(train(studio, tmp_path, "--latents", str(10**12)))


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"objects": {"axe": {}}}', '{"objects": {"axe": 1}}'])
def test_an_installation_with_a_damaged_vocabulary(tmp_path, complaint, monkeypatch, content):
    (tmp_path / "weights").mkdir()
    if content is not None:
        (tmp_path / "weights" / "vocabulary.json").write_text(content)
    monkeypatch.setattr("snce.emblem.vocabulary.files", lambda _package: tmp_path)
    vocabulary.cache_clear()
    assert "vocabulary.json, is missing or damaged" in complaint(["concepts"])


def test_values_that_make_no_sense_for_the_demo(tmp_path, complaint):
    for option, value in (("--captions", "0"), ("--workers", "0"), ("--strength", "nan"), ("--strength", "-1")):
        assert f"{option} {float(value) if option == '--strength' else value} must be" in complaint(
            ["demo", option, value, "--out", str(tmp_path)]
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cigarete", "beer"])
def test_a_misspelt_concept_is_answered_by_those_that_it_may_be(tmp_path, complaint, name):
    meant = {"cigarete": "did you mean cigarette?", "beer": "did you mean beer mug?"}[name]
    demo = complaint(["demo", "--concept", name, "--out", str(tmp_path)])
    found = complaint(["find", "emblem", "--sae", "none", "--concept", name, "--out", f"{tmp_path}/x.safetensors"])
    assert meant in demo
    assert "file" not in demo  # the demo takes none
    assert meant in found
    assert "no file of that name" in found
