"""docs/hub.md: its commands and its Python run in their order, against the hub on this machine."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from snce.emblem.load import load
from snce.sae.config import SAEConfig
from snce.sae.formats import save_sae
from snce.sae.origin import SAEOrigin
from snce.text.towers import TextTower
from tests.examples import random_eraser, random_sae

PAGE = (Path(__file__).parents[2] / "docs" / "hub.md").read_text(encoding="utf-8")
PARTS = re.findall(r"^    (snce [^\n]*)$|```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the page takes for granted: two erasers and an SAE of Emblem, a concept."""
    tower = TextTower.from_pipeline(load())
    for seed, name in enumerate(("cigarette", "bomb")):
        eraser = replace(random_eraser(seed, name, n=1, d=tower.width), fingerprint=tower.fingerprint)
        eraser.save(tmp_path / f"{name}.safetensors")
    sae = random_sae(0, SAEConfig(tower.width, 32, 4))
    origin = SAEOrigin(tower.fingerprint, tower.name, tower.path, tower.pipeline, metrics={"fvu": 0.5})
    save_sae(sae, tmp_path / "runs" / "emblem", origin)
    concept = {"targets": ["a church", "a red church"], "neutrals": ["a red apple", "a violin"]}
    (tmp_path / "church.yaml").write_text(yaml.safe_dump(concept))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_from_its_top_to_its_end(desk, snce, hub):
    names: dict[str, Any] = {}
    assert len(PARTS) == 8
    for command, python in PARTS:
        if command:
            code, _, errors = snce(*shlex.split(command)[1:])
            assert code == 0, errors
        else:
            exec(compile(python, "hub.md", "exec"), names)
    assert names["picture"].size == (64, 64)
    assert len(names["eraser"].concepts) == 2
    assert {name for name in hub.files("alice/erasers") if name.endswith(".safetensors")} == {
        "bomb.safetensors",
        "cigarette.safetensors",
    }
    for name in ("bomb.safetensors", "cigarette.safetensors"):
        assert hub.files("alice/erasers")[name] == (desk / name).read_bytes()
    assert hub.repos["alice/emblem-sae"].private
