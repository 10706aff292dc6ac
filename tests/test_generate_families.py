"""`snce generate` with pipelines of other kinds than Stable Diffusion."""

from __future__ import annotations

import pytest
from PIL import Image

from snce.cli import main
from snce.commands.drawing import check_draws
from snce.errors import SnceError
from tests.pipelines.families import FAMILIES

PICTURES = [name for name in FAMILIES if name not in ("WanPipeline", "CogVideoXPipeline", "AudioLDM2Pipeline")]


@pytest.fixture
def folder(tmp_path):
    def saved(name: str) -> str:
        FAMILIES[name](0).save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return saved


@pytest.mark.parametrize("name", ["FluxPipeline", "QwenImagePipeline", "ZImagePipeline"])
def test_a_picture_is_drawn_in_the_size_that_is_asked_for(folder, tmp_path, name):
    out = tmp_path / "picture.png"
    command = ["generate", folder(name), "--prompt", "a cat", "--steps", "1", "--height", "16", "--width", "32"]
    assert main([*command, "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert image.size == (32, 16)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in PICTURES])
def test_a_pipeline_that_makes_no_pictures_is_refused_before_it_runs(family_class, name):
    with pytest.raises(SnceError, match=r"makes (videos|sounds).*attach\(pipe\)"):
        check_draws(family_class(name))


@pytest.mark.parametrize("name", PICTURES)
def test_all_others_are_not(family_class, name):
    check_draws(family_class(name))


@pytest.fixture
def family_class():
    """An object of the class, without the parts of a pipeline."""
    import diffusers

    return lambda name: object.__new__(getattr(diffusers, name))


@pytest.mark.parametrize(("option", "value"), [("--height", "0"), ("--width", "-8"), ("--steps", "0")])
def test_a_size_that_makes_no_sense_is_refused(tmp_path, capsys, option, value):
    assert main(["generate", "emblem", "--prompt", "a", "--out", str(tmp_path / "a.png"), option, value]) == 2
    assert f"{option} {value} must be at least 1" in capsys.readouterr().err


def test_an_option_that_the_pipeline_does_not_know_is_refused(folder, tmp_path, capsys):
    command = ["generate", folder("FluxPipeline"), "--prompt", "a cat", "--steps", "1", "--height", "8", "--width", "8"]
    assert main([*command, "--negative-prompt", "a dog", "--out", str(tmp_path / "a.png")]) == 0
    command = ["generate", folder("Flux2KleinPipeline"), "--prompt", "a cat", "--negative-prompt", "a dog"]
    assert main([*command, "--out", str(tmp_path / "b.png")]) == 2
    assert "Flux2KleinPipeline takes no negative prompt" in capsys.readouterr().err
