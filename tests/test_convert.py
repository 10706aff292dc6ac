"""`snce convert`: which library a folder is of, where SAEs go and come from, and what is refused in one line."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from snce import cli
from snce.cli import main
from snce.erase.eraser import ConceptEraser
from snce.pipelines import load_pipeline
from snce.sae.formats import load_sae
from snce.text.harvest import harvest
from snce.text.towers import TextTower
from tests.studio import NEUTRALS, TARGETS, find, train

PAGE = (Path(__file__).parents[1] / "docs" / "ecosystem.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (snce .*)$", PAGE, re.MULTILINE)
assert len(COMMANDS) >= 5


@pytest.fixture(scope="module")
def position_code(studio, tmp_path_factory):
    folder = tmp_path_factory.mktemp("position")
    assert main(train(studio, folder, "--support", "position")) == 0
    return folder


@pytest.fixture
def complaint(capsys):
    def run(*arguments) -> str:
        capsys.readouterr()
        assert main(["convert", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return run


def convert(*arguments) -> None:
    assert main(["convert", *map(str, arguments)]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_are_understood(command):
    run, _ = cli._parse(shlex.split(command)[1:])
    assert callable(run)


@pytest.mark.parametrize("library", ["saelens", "sparsify"])
def test_a_position_code_goes_out_and_comes_back_as_the_same_sae(library, studio, position_code, tmp_path):
    convert(position_code, tmp_path / "out", "--to", library)
    back = tmp_path / "back"
    convert(tmp_path / "out", back, "--to", "snce", "--model", studio.model, "--prompts", studio.prompts)
    data = harvest(TextTower.from_pipeline(load_pipeline(studio.model)), NEUTRALS + TARGETS)
    (before, _), (after, origin) = load_sae(position_code), load_sae(back)
    here, there = (sae.encode(data.x, data.kinds).activations * sae.scale for sae in (before, after))
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)
    assert "imported_from" in origin.training
    assert {"fvu", "l0", "dead", "threshold_f1"} <= set(origin.metrics)


def test_the_neuron_of_a_concept_is_found_in_an_sae_that_was_brought_in(studio, tmp_path):
    convert(studio.sae, tmp_path / "out", "--to", "saelens")
    convert(tmp_path / "out", tmp_path / "back", "--to", "snce", "--model", studio.model, "--prompts", studio.prompts)
    arguments = find(studio, tmp_path / "gun.safetensors")
    assert main([*arguments, "--sae", str(tmp_path / "back")]) == 0
    eraser = ConceptEraser.load(tmp_path / "gun.safetensors")
    assert not eraser.neurons.whole_prompt.any()
    entry = eraser.card["gun"]["neurons"][0]
    assert entry["recall"] - entry["false_fires"] > 0.8


@pytest.mark.parametrize("library", ["saelens", "sparsify"])
def test_where_an_sae_of_ours_is_wanted_it_is_told_how_to_bring_a_foreign_one_in(
    library, studio, position_code, tmp_path, capsys
):
    theirs = tmp_path / "theirs"
    convert(position_code, theirs, "--to", library)
    for command in ([*find(studio, tmp_path / "e.safetensors"), "--sae", str(theirs)], ["inspect", str(theirs)]):
        capsys.readouterr()
        assert main(command) == 2
        assert f"bring it in with `snce convert {theirs} OUT --to snce --model MODEL`" in capsys.readouterr().err


def test_the_table_says_how_well_a_foreign_sae_fits_the_model(studio, position_code, tmp_path, capsys):
    convert(position_code, tmp_path / "out", "--to", "saelens")
    capsys.readouterr()
    convert(tmp_path / "out", tmp_path / "back", "--to", "snce", "--model", studio.model, "--prompts", studio.prompts)
    printed = capsys.readouterr().out
    assert "FVU" in printed
    assert "these prompts" in printed
    assert f"snce find {studio.model}" in printed.replace("\n", " ")


def test_what_cannot_be_represented_is_refused(studio, tmp_path, complaint):
    assert "prompt code" in complaint(studio.sae, tmp_path / "out", "--to", "sparsify")
    assert "prompt code" in complaint(studio.sae, tmp_path / "out", "--to", "saelens", "--activation", "topk")
    assert "--activation is for" in complaint(studio.sae, tmp_path / "out", "--to", "snce", "--activation", "topk")


def test_a_foreign_sae_needs_its_model_and_prompts(studio, tmp_path, complaint):
    convert(studio.sae, tmp_path / "out", "--to", "saelens")
    back = (tmp_path / "out", tmp_path / "back", "--to", "snce")
    assert "--model" in complaint(*back)
    assert "no prompts" in complaint(*back, "--model", studio.model)
    other = ("--model", studio.other_model, "--prompts", studio.prompts)
    assert "this SAE was trained on" in complaint(*back, *other)
    assert not (tmp_path / "back" / "sae.safetensors").exists()


def test_no_sae_is_overwritten_by_another(studio, position_code, tmp_path, complaint):
    convert(studio.sae, tmp_path / "saelens", "--to", "saelens")
    before = (position_code / "sae.safetensors").read_bytes()
    assert "would be lost" in complaint(position_code, position_code, "--to", "sparsify")
    assert "would be lost" in complaint(position_code, tmp_path / "saelens", "--to", "sparsify")
    assert "is in the format of snce already" in complaint(studio.sae, tmp_path / "x", "--to", "snce")
    assert (position_code / "sae.safetensors").read_bytes() == before
    convert(studio.sae, tmp_path / "saelens", "--to", "saelens")  # the same command again is no loss


def test_options_that_would_do_nothing_are_refused(studio, tmp_path, complaint):
    for option in (("--model", studio.model), ("--prompts", tmp_path / "none.txt")):
        told = complaint(studio.sae, tmp_path / "out", "--to", "saelens", *option)
        assert "--model and --prompts are for an SAE of another library" in told
    told = complaint(studio.sae, tmp_path / "out", "--to", "saelens", "--place", "text_encoder.final_layer_norm")
    assert "--place is for an SAE of another library" in told


def test_an_out_that_cannot_be_written_is_noticed_before_any_work(studio, tmp_path, complaint):
    convert(studio.sae, tmp_path / "theirs", "--to", "saelens")
    (tmp_path / "file").write_text("kept")
    # the model is not even looked at
    command = (tmp_path / "theirs", tmp_path / "file" / "back", "--to", "snce", "--model", "no-such-model")
    assert "cannot write to" in complaint(*command, "--prompts", studio.prompts)
    assert (tmp_path / "file").read_text() == "kept"


def test_sources_that_are_none(studio, position_code, tmp_path, complaint):
    assert "no SAE in" in complaint(tmp_path / "nowhere", tmp_path / "out", "--to", "saelens")
    convert(position_code, tmp_path / "run" / "text_encoder", "--to", "sparsify")
    assert "name the folder of one of them: text_encoder" in complaint(tmp_path / "run", tmp_path / "o", "--to", "snce")
    weights = tmp_path / "run" / "text_encoder" / "sae.safetensors"
    assert f"name its folder: {weights.parent}" in complaint(weights, tmp_path / "o", "--to", "snce")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "cfg.json").write_text(json.dumps({}))
    assert "has a cfg.json, but neither" in complaint(tmp_path / "empty", tmp_path / "out", "--to", "snce")
