"""What `snce harvest` says is to be done next can be done as it stands."""

from __future__ import annotations

import shlex
import shutil

from snce.cli import main
from snce.text import harvest as module
from tests.studio import SMALL


def test_the_next_command_trains_on_what_was_harvested(studio, tmp_path, capsys, monkeypatch):
    prompts = tmp_path / "some prompts.txt"
    shutil.copy(studio.prompts, prompts)
    options = ["--prompts", str(prompts), "--seed", "3", "--out", str(tmp_path / "of three")]
    assert main(["harvest", studio.model, *options]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    name, *arguments = shlex.split(said.removeprefix("Next: "))
    assert name == "snce"
    monkeypatch.delattr(module, "encode_blocks")  # with other prompts, or in another order, it would be called
    assert main([*arguments, *SMALL, "--steps", "2"]) == 0
