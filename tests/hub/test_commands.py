"""`snce push`, and files on the hub where a command takes an eraser or an SAE."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from huggingface_hub import constants

from snce.erase.eraser import ConceptEraser
from tests.examples import random_eraser
from tests.hub.fake_hub import TOKEN
from tests.hub.test_sae import ORIGIN
from tests.studio import find, generate

GUARDED = """
import socket, sys
connect = socket.socket.connect
def watched(self, address):
    if f"http://{address[0]}:{address[1]}" != sys.argv[1]:
        sys.exit(f"a stranger: {address}")
    return connect(self, address)
socket.socket.connect = watched
from snce.cli import main
file, name = sys.argv[2:]
sys.exit(main(["push", file, name, "--private"]) or main(["inspect", f"hf://{name}/{file.rsplit('/')[-1]}"]))
"""


def test_a_process_of_its_own_asks_the_hub_of_its_environment_and_no_other(hub, cache, tmp_path):
    random_eraser(1).save(tmp_path / "e.safetensors")
    command = [sys.executable, "-c", GUARDED, hub.url, str(tmp_path / "e.safetensors"), "alice/erasers"]
    mine = {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | mine, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "neuron of cigarette" in done.stdout
    assert hub.repos["alice/erasers"].private
    assert hub.files("alice/erasers")["e.safetensors"] == (tmp_path / "e.safetensors").read_bytes()


def test_a_pushed_eraser_draws_the_same_pictures_from_the_hub(studio, snce, hub, tmp_path):
    hub.lfs = True
    code, out, errors = snce("push", studio.eraser, "alice/erasers", "--private", "--license", "mit")
    assert (code, errors) == (0, "")
    assert hub.repos["alice/erasers"].private
    assert hub.files("alice/erasers")["gun.safetensors"] == studio.eraser.read_bytes()
    assert "license: mit" in hub.files("alice/erasers")["README.md"].decode()
    assert "--eraser hf://alice/erasers/gun.safetensors" in out
    drawn = []
    for name in (str(studio.eraser), "hf://alice/erasers/gun.safetensors"):
        code, out, errors = snce(*generate(studio, tmp_path / "picture.png", "zzz red cat", erasers=(name,)))
        assert (code, errors) == (0, "")
        drawn.append((out, (tmp_path / "picture.png").read_bytes()))
    assert drawn[0] == drawn[1]


def test_an_eraser_on_the_hub_is_baked_as_one_that_is_here(studio, snce, hub, tmp_path):
    hub.make("alice/erasers", {"gun.safetensors": studio.eraser.read_bytes()})
    for name, folder in ((str(studio.eraser), "here"), ("hf://alice/erasers/gun.safetensors", "hub")):
        code, _, errors = snce("bake", studio.model, "--eraser", name, "--out", tmp_path / folder)
        assert (code, errors) == (0, "")
    here, there = (tmp_path / f"{folder}/text_encoder/model.safetensors" for folder in ("here", "hub"))
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize("command", ["bake", "export-onnx"])
def test_an_eraser_that_the_hub_lacks_is_named_before_any_work(command, snce, hub, tmp_path):
    name = "hf://alice/nothing/gun.safetensors"
    code, out, errors = snce(command, "no-such-model", "--eraser", name, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "no such repository on the hub" in errors


def test_what_is_on_the_hub_is_inspected_and_kept(snce, hub, tmp_path, monkeypatch):
    random_eraser(1).save(tmp_path / "eraser.safetensors")
    repo = hub.make("alice/erasers", {"eraser.safetensors": (tmp_path / "eraser.safetensors").read_bytes()})
    repo.refs["v1"] = repo.refs["main"]
    for name in ("hf://alice/erasers", "hf://alice/erasers@v1/eraser.safetensors"):
        code, out, errors = snce("inspect", name, token=None)
        assert (code, errors) == (0, "")
        assert "neuron of cigarette" in out
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert snce("inspect", "hf://alice/erasers", token=None)[0] == 0
    assert hub.requests == []


def test_an_sae_on_the_hub_finds_the_same_eraser(studio, snce, hub, tmp_path):
    assert snce("push", studio.sae, "alice/sae")[0] == 0
    assert hub.files("alice/sae")["sae.safetensors"] == (studio.sae / "sae.safetensors").read_bytes()
    arguments = find(studio, tmp_path / "gun.safetensors")
    arguments[arguments.index(str(studio.sae))] = "hf://alice/sae"
    code, _, _ = snce(*arguments)
    assert code == 0
    assert (tmp_path / "gun.safetensors").read_bytes() == studio.eraser.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "hf://alice/nothing"], "no such repository on the hub"),
        (
            ["bench", "--suite", "coco", "--eraser", "hf://alice/nothing", "--out", "{out}"],
            "no such repository on the hub",
        ),
        (["inspect", "hf://alice/erasers"], "alice/erasers holds no eraser.safetensors; it holds a.safetensors"),
        (["inspect", "hf://alice"], "write hf://OWNER/NAME[@REVISION]/FILE.safetensors"),
        (["push", "{eraser}", "alice/erasers"], "log in with `hf auth login`"),
        (["push", "{eraser}", "alice/new"], "log in with `hf auth login`"),
    ],
)
def test_what_goes_wrong_is_one_line(arguments, says, studio, snce, hub, tmp_path):
    hub.make("alice/erasers", {"a.safetensors": b""})
    code, out, errors = snce(*(word.format(eraser=studio.eraser, out=tmp_path) for word in arguments), token=None)
    assert (code, out) == (2, "")
    assert says in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{eraser}", "alice"], "write OWNER/NAME"),
        (["{eraser}", "alice/erasers", "--name", "e.bin"], "ends in .safetensors"),
        (["{folder}/nothing.safetensors", "alice/erasers"], "no such file"),
        (["{folder}/weights.bin", "alice/erasers"], "is no safetensors file"),
        (["{sae}/checkpoint.safetensors", "alice/erasers"], "not a file of kind"),
    ],
)
def test_what_cannot_be_pushed_is_told_before_the_hub_is_asked(arguments, says, studio, snce, hub, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    places = {"eraser": studio.eraser, "sae": studio.sae, "folder": tmp_path}
    code, _, errors = snce("push", *(word.format(**places) for word in arguments))
    assert code == 2
    assert says in errors
    assert hub.requests == []


def test_a_name_on_the_hub_is_no_markup(snce, hub):
    code, _, errors = snce("inspect", "hf://alice/erasers@[/b]/e.safetensors")
    assert code == 2
    assert "'b]/e.safetensors' is no name for a file on the hub" in errors
    assert hub.requests == []


def test_pushing_tells_where_a_pull_request_is(studio, snce, hub):
    hub.make("bob/erasers", {"gun.safetensors": b"old"})
    code, out, _ = snce("push", studio.eraser, "bob/erasers", "--pull-request", "--base-model", "bob/model")
    assert code == 0
    assert f"{hub.url}/bob/erasers/discussions/1" in out
    assert hub.files("bob/erasers")["gun.safetensors"] == b"old"
    assert "base_model: bob/model" in hub.files("bob/erasers", "refs/pr/1")["README.md"].decode()


def test_an_eraser_remembers_the_model_on_the_hub_that_it_was_made_on(studio):
    from snce.commands.search import with_origin

    eraser = ConceptEraser.load(studio.eraser)
    assert "base_model" not in eraser.generate_model_card().data.to_dict()  # made on a folder
    made = with_origin(eraser, ORIGIN, "alice/model").generate_model_card().data.to_dict()
    assert (made["base_model"], made["base_model_relation"]) == (["alice/model"], "adapter")
