"""The `snce` command, in process, on a tiny Stable Diffusion pipeline: what it does, and what its help says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from shutil import copy

import pytest
import yaml
from PIL import Image

from snce import checkpoint as checkpoints
from snce import cli
from snce.cli import COMMANDS, main
from snce.commands.train import source_of
from snce.erase.eraser import ConceptEraser
from snce.pipelines import load_pipeline
from snce.sae.formats import load_sae
from snce.text.towers import TextTower
from tests.studio import NEUTRALS, TARGETS, find, generate, train


def test_training_writes_an_sae_that_knows_where_it_comes_from(studio):
    sae, origin = load_sae(studio.sae)
    assert (sae.config.latents, sae.config.k) == (48, 8)
    assert origin.pipeline == "StableDiffusionPipeline"
    assert origin.training["prompts"] == 4 * len(NEUTRALS + TARGETS)
    assert set(origin.metrics) == {"fvu", "l0", "dead", "threshold_f1"}


def test_what_is_given_away_tells_nothing_of_the_folders_that_it_was_made_in(studio):
    sae, origin = load_sae(studio.sae)
    assert origin.training["source"] == studio.prompts.name
    eraser = ConceptEraser.load(studio.eraser)
    files = (studio.sae / "sae.safetensors", studio.eraser, studio.eraser.with_suffix(".md"))
    cards = (card.content.encode() for card in (sae.generate_model_card(), eraser.generate_model_card()))
    for content in (*(file.read_bytes() for file in files), *cards):
        assert str(studio.prompts.parent).encode() not in content


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ("/home/alice/some prompts.txt", "some prompts.txt"),
        ("runs/captions.csv:caption", "captions.csv:caption"),
        ("/home/alice/captions.CSV:what/for", "captions.CSV:what/for"),
        ("captions.csv", "captions.csv"),
        (None, "emblem captions"),
    ],
)
def test_of_the_prompts_an_sae_tells_the_file_and_the_column(prompts, told):
    assert source_of(prompts) == told


def test_finding_writes_an_eraser_with_its_card_and_plot(studio):
    eraser = ConceptEraser.load(studio.eraser)
    assert eraser.concepts == ("gun",)
    assert "sae_metrics" in eraser.card["gun"]
    card = studio.eraser.with_suffix(".md").read_text()
    assert eraser.fingerprint in card
    assert 'ConceptEraser.load("gun.safetensors")' in card
    assert Image.open(studio.eraser.with_suffix(".png")).width > 600


def test_the_figures_on_the_card_come_from_prompts_that_did_not_choose_the_neuron(studio):
    entry = ConceptEraser.load(studio.eraser).card["gun"]
    assert entry["target_prompts"] == len(TARGETS) // 2
    assert entry["neutral_prompts"] == len(NEUTRALS) // 2


def test_a_silent_prompt_gives_the_same_file_and_a_loud_one_another(studio, tmp_path, capsys):
    eraser = ConceptEraser.load(studio.eraser).with_strength(20.0)
    strong = tmp_path / "strong.safetensors"
    eraser.save(strong)
    prompts = TARGETS + NEUTRALS
    heights = eraser.activations(prompts, TextTower.from_pipeline(load_pipeline(studio.model)))[:, 0]
    loud, silent = prompts[heights.argmax()], prompts[heights.argmin()]
    for prompt in (loud, silent):
        assert main(generate(studio, tmp_path / "before.png", prompt)) == 0
        capsys.readouterr()
        assert main(generate(studio, tmp_path / "after.png", prompt, erasers=(strong,))) == 0
        fired = "yes: edited" in capsys.readouterr().out
        same = (tmp_path / "before.png").read_bytes() == (tmp_path / "after.png").read_bytes()
        assert fired is (prompt == loud)
        assert same is not fired


def test_several_prompts_make_a_grid_or_separate_files(studio, tmp_path):
    assert main(generate(studio, tmp_path / "one.png", "a cat")) == 0
    side = Image.open(tmp_path / "one.png").width
    assert main(generate(studio, tmp_path / "grid.png", "a cat", "a dog", "a hat")) == 0
    grid = Image.open(tmp_path / "grid.png")
    assert grid.size == (2 * side, 2 * side)
    assert grid.crop((0, 0, side, side)).tobytes() == Image.open(tmp_path / "one.png").tobytes()
    assert main([*generate(studio, tmp_path / "x.png", "a cat", "a dog"), "--separate"]) == 0
    assert (tmp_path / "x-1.png").read_bytes() == (tmp_path / "one.png").read_bytes()
    assert (tmp_path / "x-2.png").is_file()
    assert not (tmp_path / "x.png").exists()


def test_several_erasers_act_together(studio, tmp_path, capsys):
    concept, dog = tmp_path / "dog.yaml", tmp_path / "dog.safetensors"
    targets = [p for p in NEUTRALS + TARGETS if "dog" in p]
    concept.write_text(yaml.safe_dump({"targets": targets, "neutrals": [p for p in NEUTRALS if "dog" not in p]}))
    assert main(find(studio, dog, "--neurons", "2", concept=str(concept))) == 0
    assert len(ConceptEraser.load(dog).concepts) == 2
    capsys.readouterr()
    erasers = (studio.eraser, dog)
    assert main(generate(studio, tmp_path / "there.png", "zzz red dog", erasers=erasers)) == 0
    assert len(re.findall(r"│ (?:gun|dog) +│", capsys.readouterr().out)) == 3
    assert main(generate(studio, tmp_path / "back.png", "zzz red dog", erasers=erasers[::-1])) == 0
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "back.png").read_bytes()


def test_inspect_tells_erasers_saes_and_checkpoints_apart(studio, capsys):
    for file, says in (
        (studio.eraser, "threshold"),
        (studio.sae, "metrics: fvu"),
        (studio.sae / "checkpoint.safetensors", "60"),
    ):
        assert main(["inspect", str(file)]) == 0
        assert says in capsys.readouterr().out


def test_inspect_shows_every_sae_of_a_folder(studio, tmp_path, capsys):
    for place in ("text_encoder", "text_encoder_2"):  # as `snce train` leaves those of several towers
        (tmp_path / place).mkdir()
        copy(studio.sae / "sae.safetensors", tmp_path / place)
    assert main(["inspect", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("metrics: fvu") == 2


def test_a_truncated_prompt_is_one_clean_line(studio, tmp_path, capsys):
    capsys.readouterr()
    assert main(generate(studio, tmp_path / "x.png", "a very long prompt indeed, word after word")) == 0
    assert capsys.readouterr().err == ""  # without an eraser, nothing looks at the text
    arguments = generate(
        studio, tmp_path / "x.png", "a very long prompt indeed, word after word", erasers=(studio.eraser,)
    )
    assert main(arguments) == 0
    assert re.fullmatch(r"warning: truncated to 16 tokens: .*\n", capsys.readouterr().err)


def test_interrupted_training_goes_on_and_ends_as_if_nothing_had_happened(studio, tmp_path, monkeypatch, capsys):
    def save_and_stop(*arguments, **options):
        save(*arguments, **options)
        raise KeyboardInterrupt

    save = checkpoints.save
    whole, broken = train(studio, tmp_path / "whole"), train(studio, tmp_path / "broken")
    for arguments in (whole, broken):
        arguments[arguments.index("60")] = "230"
    assert main(whole) == 0
    monkeypatch.setattr(checkpoints, "save", save_and_stop)
    capsys.readouterr()
    assert main(broken) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "broken" / "sae.safetensors").exists()
    monkeypatch.setattr(checkpoints, "save", save)
    assert main(broken) == 0
    assert (tmp_path / "broken" / "sae.safetensors").read_bytes() == (
        tmp_path / "whole" / "sae.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert f"  snce {command}" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_in_a_text_that_flows(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "4000")  # nothing has to be broken
    with pytest.raises(SystemExit):
        main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    _, options, _ = cli._load(command)
    for field in fields(options):
        assert any(field.metadata["help"] in line for line in lines), field.name


def test_help_names_every_command(capsys):
    for arguments in (["--help"], []):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        text = capsys.readouterr().out
        assert all(f"• {command}" in text for command in COMMANDS)


def test_an_unknown_command_or_option_exits_with_2(capsys):
    for arguments in (["erase"], ["inspect"], ["inspect", "x", "--loud"]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"snce \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_defaults_on_the_command_line_are_those_of_the_library():
    from inspect import signature

    from snce.commands.find_options import FindOptions
    from snce.commands.train import TrainOptions
    from snce.demo.config import DemoConfig
    from snce.demo.laboratory import CAPTIONS, SAE, TRAINING
    from snce.erase.build import STRENGTH, build_eraser
    from snce.neurons.scores import RULES
    from snce.sae.config import SAEConfig, TrainConfig

    for model, sae, training in (("emblem", SAE, TRAINING), ("sd15", SAEConfig(8), TrainConfig())):
        options = TrainOptions(model, Path("out"))
        library = {**vars(sae), **vars(training)}
        shared = {"support", "activation", "steps", "batch", "lr", "seed"}
        assert {name: getattr(options, name) for name in shared} == {name: library[name] for name in shared}
        assert options.sizes() == (sae.latents, sae.k)
    assert TrainOptions.captions == DemoConfig.captions == CAPTIONS
    assert (
        FindOptions.strength
        == DemoConfig.strength
        == signature(build_eraser).parameters["strength"].default
        == STRENGTH
    )
    for options in (FindOptions, DemoConfig):
        assert set(options.__dataclass_fields__["rule"].type.__args__) == set(RULES)
