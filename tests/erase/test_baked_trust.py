"""A baked folder that was tampered with or damaged: foreign code is not run, other edits are told apart."""

import json
import shutil

import pytest
import torch

from snce import load_pipeline
from snce.erase.bake import bake
from snce.erase.baked_folder import code_file, has_our_code
from snce.errors import SnceError
from snce.text.fingerprint import pipeline_fingerprints, scheduler_fingerprint
from snce.text.towers import TextTower
from tests.examples import eraser_for, tiny_pipeline

EVIL = "raise SystemExit('foreign code was run')\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("trust")


@pytest.fixture(scope="module")
def model(place):
    tiny_pipeline().save_pretrained(place / "tiny")
    return str(place / "tiny")


@pytest.fixture(scope="module")
def eraser(place):
    found = eraser_for(TextTower.from_pipeline(tiny_pipeline()), 0)[0]
    found.save(place / "eraser.safetensors")
    return found


@pytest.fixture(scope="module")
def baked(place, model, eraser):
    return bake(model, [place / "eraser.safetensors"], place / "baked")


def changed(folder, component, library):
    """The index of a baked folder with another library for a component."""
    file = folder / "model_index.json"
    index = json.loads(file.read_text())
    index[component] = [library, "X"]
    file.write_text(json.dumps(index))


@pytest.mark.parametrize("library", ["../../evil", "../evil", "a/../../evil", 7])
def test_an_index_that_leads_out_of_the_folder_is_none_of_ours(baked, tmp_path, library):
    folder = shutil.copytree(baked, tmp_path / "model")
    assert has_our_code(folder)
    (tmp_path / "evil.py").write_text(EVIL)
    changed(folder, "unet", library)
    assert not has_our_code(folder)
    with pytest.raises(SnceError, match="cannot load model"):
        load_pipeline(str(folder))


def test_code_behind_a_linked_folder_is_none_of_ours(baked, tmp_path):
    folder = shutil.copytree(baked, tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "evil.py").write_text(EVIL)
    shutil.rmtree(folder / "unet")
    (folder / "unet").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    changed(folder, "unet", "evil")
    assert not has_our_code(folder)
    with pytest.raises(SnceError, match="cannot load model"):
        load_pipeline(str(folder))


def test_a_component_that_is_a_path_is_none_of_ours(baked, tmp_path):
    folder = shutil.copytree(baked, tmp_path / "model")
    (tmp_path / "evil.py").write_text(EVIL)
    changed(folder, "..", "evil")
    assert not has_our_code(folder)


def test_a_folder_with_our_code_alone_is_loaded(baked):
    assert has_our_code(baked)
    assert type(load_pipeline(str(baked)).text_encoder).__name__ == "ErasedCLIPTextModel"
    assert (baked / "text_encoder" / f"{code_file()[0]}.py").is_file()


def test_fingerprints_tell_baked_models_by_their_edit(place, model, eraser, baked, tmp_path):
    eraser.with_strength(0.5).save(tmp_path / "weaker.safetensors")
    weaker = bake(model, [tmp_path / "weaker.safetensors"], tmp_path / "weaker")
    found = [pipeline_fingerprints(load_pipeline(str(folder))) for folder in (baked, weaker, baked)]
    assert found[0] == found[2]
    assert found[0]["text_encoder"] != found[1]["text_encoder"]
    assert {name: v for name, v in found[0].items() if name != "text_encoder"} == {
        name: v for name, v in found[1].items() if name != "text_encoder"
    }


def test_the_fingerprint_of_a_baked_encoder_survives_a_cast(baked):
    pipe = load_pipeline(str(baked))
    before = pipeline_fingerprints(pipe)["text_encoder"]
    pipe.text_encoder.to(torch.float16)
    assert pipeline_fingerprints(pipe)["text_encoder"] == before


def test_a_scheduler_is_told_by_its_settings():
    scheduler = tiny_pipeline().scheduler
    other = type(scheduler).from_config(scheduler.config, prediction_type="v_prediction")
    same = type(scheduler).from_config(scheduler.config)
    assert scheduler.config.prediction_type != "v_prediction"
    assert scheduler_fingerprint(scheduler) == scheduler_fingerprint(same) != scheduler_fingerprint(other)
    assert scheduler_fingerprint(other).startswith(type(scheduler).__name__)


def truncate(folder):
    file = folder / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def only_a_pickle(folder):
    file = folder / "text_encoder" / "model.safetensors"
    file.rename(file.with_name("pytorch_model.bin"))


def no_tokenizer(folder):
    for file in (folder / "tokenizer").iterdir():
        file.write_text("{")


@pytest.mark.parametrize(
    ("damage", "where"), [(truncate, "text_encoder"), (only_a_pickle, "text_encoder"), (no_tokenizer, "tokenizer")]
)
def test_damaged_files_of_the_model_are_named_and_nothing_is_written(place, model, eraser, tmp_path, damage, where):
    folder = shutil.copytree(model, tmp_path / "model")
    damage(folder)
    with pytest.raises(SnceError, match=f"cannot load .*{where}: "):
        bake(str(folder), [place / "eraser.safetensors"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_home_folder_is_found(model, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(model, tmp_path / "model")
    assert type(load_pipeline("~/model")) is type(load_pipeline(model))
