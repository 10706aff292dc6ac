"""What docs/real-models.md says of the command line and in Python."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from snce import cli
from snce.bench.methods import saeuron_sae
from snce.bench.suites import run as suites
from snce.bench.suites.columns import COLUMNS
from snce.bench.suites.config import SUITES, SuiteConfig
from snce.bench.suites.lineup import Studio
from snce.bench.suites.prompts import HOMES
from snce.errors import SnceError
from snce.pipelines import load_pipeline
from snce.sae.config import TrainConfig
from snce.text.prompts import Concept
from tests.docs.pages import read, run

PAGE = (Path(__file__).parents[3] / "docs" / "real-models.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (snce .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command):
    _, options = cli._parse(shlex.split(command)[1:])
    options.check()


def test_it_shows_every_suite_and_names_sources_and_columns():
    assert {shlex.split(command)[3] for command in COMMANDS} == set(SUITES)
    for name in (*HOMES.values(), *(name for names in COLUMNS.values() for name in names)):
        assert name in PAGE
    assert "No figure of these suites was produced on real weights" in PAGE


TOY = {
    "up_blocks.1.attentions.1": "up_blocks.0.attentions.1",
    "latents=20_480, k=32": "latents=48, k=8",
}
"""What the page names, and what a pipeline of toy size has."""


@pytest.fixture
def ran(studio, tmp_path, monkeypatch) -> list[tuple[SuiteConfig, Console]]:
    """The Python of the page is run on a tiny pipeline, with little training; the runs of suites that it asks for."""
    seen = []
    little = {"sampling": saeuron_sae.Sampling(2, 3.0, 2), "training": TrainConfig(steps=4, batch=4)}
    monkeypatch.setattr(saeuron_sae, "train_unet_sae", partial(saeuron_sae.train_unet_sae, **little))
    monkeypatch.setattr(suites, "run_suite", lambda *given: seen.append(given))
    monkeypatch.chdir(tmp_path)
    Path("captions.txt").write_text("a cat\na dog\na church\n", encoding="utf-8")
    run(read("real-models.md", {**TOY, SuiteConfig.model: studio.model}), only_parse=("bench",))
    return seen


def test_saeuron_takes_the_sae_that_it_trains_and_no_other_unet_does(studio, ran):
    config = SuiteConfig("imagenette", unet_sae=Path("runs/unet"))
    pipe = load_pipeline(studio.model)
    method = Studio(pipe, config, None).made(["SAeUron"])["SAeUron"]
    assert method.sae.block == "up_blocks.0.attentions.1"
    assert method.sae.sampling == saeuron_sae.Sampling(2, 3.0, 2)  # as it was trained
    assert (method.sae.sae.config.latents, method.sae.sae.config.k) == (48, 8)
    erasure = method.prepare(pipe, [Concept("church", ("a church",), ("a cat",))])
    assert len(erasure.latents) >= 2
    with pytest.raises(SnceError, match="another UNet"):
        Studio(load_pipeline(studio.other_model), config, None).made(["SAeUron"])


def test_the_suite_that_it_runs_in_python_can_be_run(ran):
    [(config, console)] = ran
    config.check()
    assert config.suite == "i2p"
    assert isinstance(console, Console)


def test_what_it_says_of_the_defaults_for_an_sae_is_so():
    """Blocks of Stable Diffusion 1.x: on the way up the first has no cross-attention, the others three each."""
    from diffusers import UNet2DConditionModel

    small = {"block_out_channels": (4, 8, 16, 16), "norm_num_groups": 2, "attention_head_dim": 2}
    unet = UNet2DConditionModel(cross_attention_dim=8, **small)  # its other defaults are those of Stable Diffusion 1.x
    assert saeuron_sae.last_cross_attention(unet) == "up_blocks.3.attentions.2"
    for place in ("1", "2"):
        block = unet.get_submodule(f"up_blocks.1.attentions.{place}")
        assert block.config.in_channels == 16  # the widest, 1,280 there
    training = saeuron_sae.TRAINING
    assert f"{training.steps:,}\nsteps of {training.batch * 16:,} places at a rate of up to {training.lr}" in PAGE
