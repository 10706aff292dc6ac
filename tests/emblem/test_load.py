"""Emblem's weights: all there, small, no pickle; loading needs no network and says nothing."""

import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

import snce
from snce.emblem.load import load, load_judge, weights_folder

FILES = [path for path in weights_folder().rglob("*") if path.is_file()]


def test_all_files_are_of_kinds_that_cannot_run_code():
    assert {path.suffix for path in FILES} <= {".safetensors", ".json", ".txt", ".md", ".png"}
    for path in FILES:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                assert list(file.keys())


def test_they_take_at_most_64_mb_together():
    assert sum(path.stat().st_size for path in FILES) <= 64e6


def test_no_weight_is_lost_or_made_up(emblem):
    for part in (emblem.text_encoder, emblem.unet, emblem.vae):
        for name, weight in part.named_parameters():
            assert torch.isfinite(weight).all(), name
            assert weight.dtype == torch.float32


def test_it_is_a_stable_diffusion_pipeline_of_the_usual_classes(emblem):
    assert type(emblem) is StableDiffusionPipeline
    assert type(emblem.text_encoder) is CLIPTextModel
    assert isinstance(emblem.tokenizer, CLIPTokenizer)
    assert type(emblem.unet) is UNet2DConditionModel
    assert type(emblem.vae) is AutoencoderKL
    assert not any(part.training for part in (emblem.text_encoder, emblem.unet, emblem.vae))


def test_it_draws_pictures_of_64_pixels(emblem):
    image = emblem("a violin", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (64, 64)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_arguments, **_options):
        raise AssertionError("tried to reach the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_loading_needs_no_network_and_says_nothing(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load()
        load_judge.__wrapped__()  # past the cache
    assert capfd.readouterr() == ("", "")


def test_two_loads_are_the_same_weights_and_do_not_share_them(emblem):
    other = load()
    for (name, a), b in zip(emblem.unet.state_dict().items(), other.unet.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
        assert a.data_ptr() != b.data_ptr()


def test_every_word_of_the_vocabulary_is_known_to_the_tokenizer(emblem):
    from snce.emblem.vocabulary import vocabulary

    for name in (*vocabulary().objects, *vocabulary().styles):
        ids = emblem.tokenizer(name).input_ids
        assert emblem.tokenizer.decode(ids, skip_special_tokens=True).strip() == name


def test_an_installation_without_the_weights_says_so(tmp_path):
    source = Path(snce.__file__).parent
    shutil.copytree(source, tmp_path / "snce", ignore=shutil.ignore_patterns("pipeline", "judge.safetensors"))
    code = "from snce.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    for command in (["generate", "emblem", "--prompt", "a violin", "--out", "a.png"], ["demo", "--out", "demo"]):
        run = subprocess.run(
            [sys.executable, "-c", code, *command],
            env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 2, run.stderr
        assert "reinstall snce" in run.stderr
        assert len(run.stderr.strip().splitlines()) == 1
