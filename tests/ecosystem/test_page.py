"""docs/ecosystem.md: its commands and its Python run in their order, and its configuration is one of eval-unlearn."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from eval_unlearn.runners import SingleBenchmarkRunner

from snce.cli import main
from snce.integrations.eval_unlearn import SnceConfig
from snce.sae.formats import save_sae

pytestmark = pytest.mark.ecosystem

PAGE = (Path(__file__).parents[2] / "docs" / "ecosystem.md").read_text(encoding="utf-8")
PARTS = re.findall(r"^    (snce [^\n]*)$|```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_runs_from_its_top_to_its_end(violin, saes, origin, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_sae(violin.sae, "runs/emblem", origin)
    save_sae(saes["topk"], "runs/position", origin)
    names: dict[str, Any] = {}
    assert len(PARTS) == 9
    for command, python in PARTS:
        if command:
            assert main(shlex.split(command)[1:]) == 0
        else:
            capsys.readouterr()
            exec(compile(python, "ecosystem.md", "exec"), names)
    # the last lines of the page: the violin's picture changed, the apple's did not
    assert capsys.readouterr().out.strip().endswith("[False, True]")


def test_the_configuration_is_understood_by_eval_unlearn_and_by_us(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    told = yaml.safe_load(text)
    technique = told["technique"]
    assert SnceConfig.from_dict(technique["config"]).erasers == ("violin.safetensors",)
    SingleBenchmarkRunner(
        technique["name"], told["metric"]["name"], technique["config"], output_dir=str(tmp_path)
    )  # checks names and configuration, and loads nothing yet
    options = re.findall(r"`(\w+)`", PAGE.split("Further options:")[1].split("A mistyped")[0])
    assert {*technique["config"], *options} == set(SnceConfig.__dataclass_fields__)
