"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest
import torch

import snce
from snce.errors import SnceError
from snce.pipelines import load_pipeline


@pytest.mark.parametrize("name", snce.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(snce, name) is not None
    assert name in dir(snce)


def test_public_names_are_the_objects_of_their_modules():
    for name, home in snce._HOMES.items():
        assert getattr(snce, name) is getattr(importlib.import_module(home), name)
    assert set(snce._HOMES) | {"__version__"} == set(snce.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'erase_everything'"):
        snce.erase_everything  # noqa: B018


def loaded_after(code: str) -> set[str]:
    """Heavy libraries that a fresh interpreter has loaded after `code`."""
    heavy = ("torch", "diffusers", "transformers", "numpy", "matplotlib")
    script = f"{code}\nimport sys; print(*[m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr.split()
    )


@pytest.mark.parametrize(
    "code",
    [
        "import snce, snce.cli; snce.__version__",
        "import snce.cli\ntry: snce.cli.main(['--help'])\nexcept SystemExit: pass",
        "import snce.cli\ntry: snce.cli.main(['train', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_importing_and_asking_for_help_stays_light(code):
    assert loaded_after(code) == set()


def test_the_public_classes_do_not_need_diffusers():
    assert "diffusers" not in loaded_after("from snce import ConceptEraser, SparseAutoencoder, TextTower, Concept")


@pytest.mark.parametrize("model", ["", "nowhere", "./nowhere", "/no/where", "a/b/c"])
def test_a_model_that_does_not_exist(model):
    with pytest.raises(SnceError):
        load_pipeline(model)


def test_half_precision_weights_are_loaded_in_one_precision(pipe, tmp_path):
    pipe.to(torch.float16).save_pretrained(tmp_path)
    loaded = load_pipeline(str(tmp_path))
    assert {m.dtype for m in (loaded.text_encoder, loaded.unet, loaded.vae)} == {torch.float32}


def test_loading_and_drawing_say_nothing_that_the_user_has_not_asked_for(pipe, tmp_path):
    pipe.to(torch.float16).save_pretrained(tmp_path)
    script = (
        "import sys, snce; pipe = snce.load_pipeline(sys.argv[1]); pipe('a', num_inference_steps=1); "
        "snce.TextTower.from_pipeline(pipe).encode(['a'])"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    bars = re.compile(r"(Loading |\s*\d+%\|)")
    lines = re.split(r"[\r\n]|\x1b\[A", said.stdout + said.stderr)
    assert [line for line in lines if line.strip() and not bars.match(line)] == []


def test_a_folder_is_loaded_as_the_pipeline_that_it_holds(shared_pipe, tmp_path):
    shared_pipe.save_pretrained(tmp_path)
    loaded = load_pipeline(str(tmp_path))
    assert type(loaded) is type(shared_pipe)
    assert snce.TextTower.from_pipeline(loaded).fingerprint == snce.TextTower.from_pipeline(shared_pipe).fingerprint
