"""Workers open models and erasers by name: what is something else on their machine is refused, not used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snce.cli import main
from snce.commands import drawing, harvest
from snce.commands.generate_options import GenerateOptions
from snce.engines.spread import check_same
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.pipelines import load_pipeline
from tests.studio import generate


@pytest.mark.parametrize("module", [harvest, drawing])
def test_a_worker_whose_model_is_another_one_ends_the_command(studio, tmp_path, monkeypatch, capsys, module):
    commands = {
        harvest: ["harvest", studio.model, "--prompts", str(studio.prompts), "--out", str(tmp_path)],
        drawing: generate(studio, tmp_path / "a.png", "a cat"),
    }
    monkeypatch.setattr(module, "name_for_workers", lambda _: studio.other_model)  # as on a machine that has it there
    assert main([*commands[module], "--workers", "1"]) == 2
    assert "has other files under the same names: text_encoder" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.rglob("*.png")) == []


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_every_part_that_draws_must_be_the_drivers(studio, tmp_path, part):
    pipe, options = load_pipeline(studio.model), GenerateOptions(studio.model, tmp_path / "a.png")
    inputs = drawing.inputs_of(pipe, options)
    pipe.register_modules(**{part: getattr(load_pipeline(studio.other_model), part)})
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(SnceError, match=rf"same names: {part} [0-9a-f]{{16}} in place of {inputs[part]}; put the same"):
        drawing._Worker.start(replace(options, model=str(tmp_path / "model")), inputs)


def test_so_must_the_erasers(studio, tmp_path):
    options = GenerateOptions(studio.model, tmp_path / "a.png", eraser=(str(studio.eraser),))
    inputs = drawing.inputs_of(load_pipeline(studio.model), options)
    ConceptEraser.load(studio.eraser).with_strength(0.5).save(tmp_path / "gun.safetensors")
    with pytest.raises(SnceError, match=rf"same names: eraser 1 [0-9a-f]{{16}} in place of {inputs['eraser 1']};"):
        drawing._Worker.start(replace(options, eraser=(str(tmp_path / "gun.safetensors"),)), inputs)


def test_what_only_one_of_them_has_is_told():
    with pytest.raises(SnceError, match="names: vae missing in place of 2, safety_checker 3 in place of none;"):
        check_same({"unet": "1", "safety_checker": "3"}, {"unet": "1", "vae": "2"})
    check_same({"unet": "1"}, {"unet": "1"})
