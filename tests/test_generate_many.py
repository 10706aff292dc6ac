"""`snce generate --prompts`: a folder of pictures that goes on where it was interrupted."""

import csv
import shutil

import pytest
from diffusers import EulerDiscreteScheduler

from snce.cli import main
from snce.commands.generate_options import GenerateOptions
from snce.commands.picture_files import settings_of
from snce.pipelines import load_pipeline, pipeline_folder
from tests.studio import TARGETS, generate

PROMPTS = ["a cat", TARGETS[0], 'a hat, "red"']


@pytest.fixture
def many(studio, tmp_path):
    """The command that draws them into a folder."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))

    def command(out, *more, model=studio.model):
        options = ["--prompts", str(tmp_path / "prompts.txt"), "--steps", "2", *more]
        return ["generate", str(model), *options, "--out", str(tmp_path / out)]

    return command


def pictures(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_every_picture_is_what_its_prompt_alone_gives(studio, many, tmp_path):
    eraser = ("--eraser", str(studio.eraser))
    assert main(many("all", *eraser)) == 0
    assert list(pictures(tmp_path / "all")) != []
    for i, prompt in enumerate(PROMPTS, 1):
        assert main(generate(studio, tmp_path / "one.png", prompt, erasers=(studio.eraser,))) == 0
        assert (tmp_path / "all" / f"{i:06d}.png").read_bytes() == (tmp_path / "one.png").read_bytes()
    with (tmp_path / "all" / "prompts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == PROMPTS
    assert [row["fired"] for row in rows] == ["", "gun", ""]


def test_what_is_missing_is_drawn_again_and_nothing_else(many, tmp_path):
    assert main(many("all")) == 0
    whole = pictures(tmp_path / "all")
    (tmp_path / "all" / "000002.png").unlink()
    (tmp_path / "all" / "000003.png").write_bytes(b"mine")
    assert main(many("all")) == 0
    assert pictures(tmp_path / "all") == whole | {"000003.png": b"mine"}


def test_shards_fill_one_folder_with_the_same_pictures(many, tmp_path, capsys):
    assert main(many("all")) == 0
    assert main(many("shared", "--shard", "1/2")) == 0
    assert sorted(pictures(tmp_path / "shared")) == ["000001.png", "000003.png"]
    assert "2 pictures; 1 are left for other shards" in capsys.readouterr().out
    assert main(many("shared", "--shard", "2/2")) == 0
    assert pictures(tmp_path / "shared") == pictures(tmp_path / "all")


def test_shards_are_collected_from_machines_that_have_model_and_eraser_elsewhere(studio, many, tmp_path):
    assert main(many("all", "--eraser", str(studio.eraser))) == 0
    assert main(many("shared", "--eraser", str(studio.eraser), "--shard", "1/2")) == 0
    model, eraser = shutil.copytree(studio.model, tmp_path / "elsewhere"), shutil.copy(studio.eraser, tmp_path)
    command = many("shared", "--eraser", str(eraser), "--shard", "2/2", "--workers", "1", model=model)
    assert main(command) == 0
    assert pictures(tmp_path / "shared") == pictures(tmp_path / "all")


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae", "scheduler"])
def test_pictures_of_two_models_of_one_name_are_not_mixed(studio, many, tmp_path, capsys, part):
    model = tmp_path / "model"
    shutil.copytree(studio.model, model)
    assert main(many("all", "--shard", "1/3", model=model)) == 0
    pipe = load_pipeline(str(model))
    others = load_pipeline(studio.other_model).components | {"scheduler": EulerDiscreteScheduler()}
    pipe.register_modules(**{part: others[part]})
    pipe.save_pretrained(model)
    assert main(many("all", model=model)) == 2
    assert f"settings.json differs in {part}): choose another --out" in " ".join(capsys.readouterr().err.split())
    assert sorted(pictures(tmp_path / "all")) == ["000001.png"]


def test_emblem_by_its_name_and_by_its_folder_differ_in_what_the_name_decides(tmp_path):
    models = ("emblem", str(pipeline_folder("emblem")))
    by_name, by_folder = (settings_of(PROMPTS, GenerateOptions(model, tmp_path), {}) for model in models)
    assert {name for name in by_name if by_name[name] != by_folder[name]} == {"steps", "guidance_scale"}


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"null", b"[1, 2]", b'[["seed", 0]]', b"\xff", b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}",
        b" " * 16_000_001,
    ],
    ids=["empty", "null", "list", "pairs", "bytes", "deep", "digits", "huge"],
)  # fmt: skip
def test_settings_that_cannot_be_read_are_told(many, tmp_path, capsys, damage):
    assert main(many("all", "--shard", "1/9")) == 0
    (tmp_path / "all" / "settings.json").write_bytes(damage)
    assert main(many("all")) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "settings.json" in told
    assert told.endswith("; choose another --out")
    assert (tmp_path / "all" / "settings.json").read_bytes() == damage


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--seed", "1"), "pictures of other prompts or settings"),
        (("--prompt", "a dog"), "leave --prompt"),
        (("--separate",), "leave --prompt"),
        (("--shard", "3/2"), "must be like 3/8"),
        (("--workers", "0"), "--workers 0 must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(many, capsys, more, says):
    assert main(many("all", "--shard", "1/9")) == 0
    assert main(many("all", *more)) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_share_of_no_file_is_refused(studio, tmp_path, capsys):
    assert main([*generate(studio, tmp_path / "x.png", "a cat"), "--shard", "1/2"]) == 2
    assert "--prompts FILE" in capsys.readouterr().err
