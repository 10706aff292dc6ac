"""Baked pipelines of every family: loaded by plain diffusers, their denoiser receives, in every bit, what that of the
original receives with the eraser attached."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from diffusers import DiffusionPipeline

from snce import load_pipeline
from snce.cli import main
from snce.erase.bake import bake
from snce.erase.baked_folder import has_our_code
from snce.errors import SnceError
from tests.pipelines.denoiser import run
from tests.pipelines.families import FAMILIES
from tests.pipelines.parts import quiet
from tests.pipelines.rows import PROMPTS, assert_same, received_rows
from tests.pipelines.test_erasing import eraser_of
from tests.pipelines.test_erasing_variants import differ, rows_of

BAKED = [name for name in FAMILIES if name != "AudioLDM2Pipeline"]
FIELDS = [name for name in BAKED if name.removeprefix("StableDiffusion")[:2] in ("XL", "3P") or "Stable" not in name]


@pytest.fixture(scope="module")
def baked_of(tmp_path_factory, family_pipe):
    """By the name of the class: the eraser of all towers, and the folder that it was baked into."""
    done = {}

    def build(name: str):
        if name not in done:
            place = tmp_path_factory.mktemp(name)
            family_pipe(name).save_pretrained(place / "model")
            eraser = eraser_of(family_pipe(name))
            eraser.save(place / "eraser.safetensors")
            done[name] = eraser, bake(place / "model", [place / "eraser.safetensors"], place / "baked")
        return done[name]

    return build


def load(folder):
    return quiet(DiffusionPipeline.from_pretrained(folder, trust_remote_code=True))


@pytest.mark.parametrize("name", BAKED)
def test_the_denoiser_receives_what_it_receives_with_the_eraser_attached(family_pipe, untouched_rows, baked_of, name):
    pipe, (eraser, folder) = family_pipe(name), baked_of(name)
    plain, _ = untouched_rows(name)
    with eraser.attach(pipe, edit_negative=True):
        expected = received_rows(pipe)
    found = received_rows(load(folder))
    for rows, others in zip(found, expected, strict=True):
        assert_same(rows, others)
    assert differ(rows_of(found[0], 0), rows_of(plain, 0))
    assert_same(rows_of(found[0], 1), rows_of(plain, 1))


@pytest.mark.parametrize("name", FIELDS)
def test_no_edited_encoder_loads_into_its_plain_class(family_pipe, baked_of, name):
    eraser, folder = baked_of(name)
    for tower in {part.tower for part in eraser.parts}:
        kind = type(getattr(family_pipe(name), tower))
        assert kind is getattr(transformers, kind.__name__)
        with pytest.raises(RuntimeError, match="mismatch"):
            kind.from_pretrained(folder / tower)


@pytest.mark.parametrize("name", ["StableDiffusionXLPipeline", "QwenImagePipeline"])
def test_what_the_loaded_pipeline_saves_is_baked(baked_of, tmp_path, name):
    _, folder = baked_of(name)
    pipe = load(folder)
    pipe.save_pretrained(tmp_path)
    assert has_our_code(tmp_path)
    for rows, others in zip(received_rows(load(tmp_path)), received_rows(pipe), strict=True):
        assert_same(rows, others)


@pytest.mark.parametrize("name", ["StableDiffusionXLPipeline", "PixArtAlphaPipeline"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_in_half_precision_too(baked_of, name, dtype):
    eraser, folder = baked_of(name)
    pipe = quiet(DiffusionPipeline.from_pretrained(folder.parent / "model", dtype=dtype))
    with eraser.attach(pipe, edit_negative=True, allow_mismatch=True):
        expected = received_rows(pipe)
    found = received_rows(quiet(DiffusionPipeline.from_pretrained(folder, dtype=dtype, trust_remote_code=True)))
    for rows, others in zip(found, expected, strict=True):
        assert_same(rows, others)


def test_clip_skip_gets_no_layer_that_is_not_edited(baked_of):
    _, folder = baked_of("StableDiffusionXLPipeline")
    with pytest.raises(TypeError, match="NoneType"):
        run(load(folder), PROMPTS[0], clip_skip=1)


def test_snce_loads_it_and_trusts_its_own_code(baked_of):
    _, folder = baked_of("StableDiffusionXLPipeline")
    found = received_rows(quiet(load_pipeline(str(folder))))
    for rows, others in zip(found, received_rows(load(folder)), strict=True):
        assert_same(rows, others)


def test_an_encoder_without_a_part_stays_as_it_is(family_pipe, baked_of, tmp_path):
    name = "StableDiffusionXLPipeline"
    pipe, (eraser, folder) = family_pipe(name), baked_of(name)
    (part,) = (part for part in eraser.parts if part.place == "text_encoder_2.output.text_embeds")
    part.save(tmp_path / "part.safetensors")
    out = bake(folder.parent / "model", [tmp_path / "part.safetensors"], tmp_path / "out")
    index = json.loads((out / "model_index.json").read_text())
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]
    assert index["text_encoder_2"][1] == "ErasedCLIPTextModelWithProjection"
    with part.attach(pipe, edit_negative=True):
        expected = received_rows(pipe)
    for rows, others in zip(received_rows(load(out)), expected, strict=True):
        assert_same(rows, others)


def test_several_erasers_of_several_towers_are_joined(family_pipe, baked_of, tmp_path):
    name = "StableDiffusionXLPipeline"
    pipe, (eraser, folder) = family_pipe(name), baked_of(name)
    other = eraser_of(pipe, seed=50, loud=PROMPTS[1], silent=PROMPTS[0])
    files = [folder.parent / "eraser.safetensors", tmp_path / "other.safetensors"]
    other.save(files[1])
    found = received_rows(load(bake(folder.parent / "model", files, tmp_path / "out")))
    with (eraser | other).attach(pipe, edit_negative=True):
        for rows, others in zip(found, received_rows(pipe), strict=True):
            assert_same(rows, others)


def test_the_folder_says_at_which_places_it_is_edited(baked_of):
    eraser, folder = baked_of("StableDiffusion3Pipeline")
    readme = (folder / "README.md").read_text()
    assert len(eraser.parts) == 5
    assert all(f"| `{part.place}` | concept |" in readme for part in eraser.parts)
    assert all(part.fingerprint in readme for part in eraser.parts)
    assert "`text_encoder` and `text_encoder_2`, the edited ones alone are handed out" in readme


def test_a_pipeline_that_cannot_be_asked_for_its_tokens_is_refused(baked_of, tmp_path):
    _, folder = baked_of("PixArtAlphaPipeline")
    shutil.copytree(folder.parent / "model", tmp_path / "model")
    (tmp_path / "model" / "tokenizer" / "tokenizer.json").write_text("damaged")
    with pytest.raises(SnceError, match="cannot load PixArtAlphaPipeline to see what it makes of a prompt"):
        bake(tmp_path / "model", [folder.parent / "eraser.safetensors"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encoder_of_another_class_is_refused(family_pipe, tmp_path):
    name = "AudioLDM2Pipeline"
    family_pipe(name).save_pretrained(tmp_path / "model")
    eraser_of(family_pipe(name)).save(tmp_path / "eraser.safetensors")
    with pytest.raises(SnceError, match=r"transformers\.ClapModel cannot be baked; CLIPTextModel, .* can"):
        bake(tmp_path / "model", [tmp_path / "eraser.safetensors"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch_dtype, which old and new versions of diffusers understand
def test_the_command_says_how_to_load_what_it_wrote(baked_of, tmp_path, capsys):
    _, folder = baked_of("FluxPipeline")
    file, out = str(folder.parent / "eraser.safetensors"), tmp_path / "out"
    assert main(["bake", str(folder.parent / "model"), "--eraser", file, "--out", str(out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    call = told[told.index("DiffusionPipeline.from_pretrained(") : told.index(")") + 1]
    assert "torch_dtype=torch.float32" in call
    assert "trust_remote_code=True" in call
    pipe = eval(call, {"DiffusionPipeline": DiffusionPipeline, "torch": torch})
    assert type(pipe.text_encoder).__name__ == "ErasedCLIPTextModel"
