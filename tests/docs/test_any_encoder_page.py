"""docs/any-encoder.md, run from top to bottom on a pipeline that is not in the table."""

from __future__ import annotations

import pytest
import torch

from snce.errors import SnceError
from snce.text.families import FAMILIES
from snce.text.towers import TextTower
from tests.docs.ltx import ltx
from tests.docs.pages import read, run
from tests.examples import same_bits


@pytest.fixture
def table():
    before = dict(FAMILIES)
    yield FAMILIES
    FAMILIES.clear()
    FAMILIES.update(before)


def page(model: str):
    options = '{"num_inference_steps": 1, "guidance_scale": 1.0}'
    small = '{"num_inference_steps": 1, "guidance_scale": 1.0, "height": 32, "width": 32, "num_frames": 1}'
    return read("any-encoder.md", {"Lightricks/LTX-Video": model, options: small})


def test_all_of_it_runs(table, tmp_path):
    ltx().save_pretrained(tmp_path)
    with pytest.raises(SnceError, match="LTXPipeline is not a known pipeline"):
        TextTower.from_pipeline(ltx())
    names = run(page(str(tmp_path)))
    tower, bare = names["tower"], names["bare"]
    prompt = ["a church on a hill"]
    assert tower.positions == bare.positions == 128
    assert same_bits(tower.encode(prompt), bare.encode(prompt))
    assert torch.equal(names["after"], names["edited"])  # attached to the bare tower it does the same


def test_its_check_fails_for_a_place_that_the_denoiser_does_not_read(table, tmp_path):
    ltx().save_pretrained(tmp_path)
    steps = page(str(tmp_path))
    wrong = steps[0]._replace(code=steps[0].code.replace("output.last_hidden_state", "output.hidden_states[-2]"))
    with pytest.raises(AssertionError):
        run([wrong, *steps[1:]])
