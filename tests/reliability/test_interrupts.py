"""Ctrl-C: a terminal sends it to the command and to all of its workers at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from threading import Timer
from typing import TYPE_CHECKING

import pytest

from snce.cli import INTERRUPTED, main
from snce.temporaries import PREFIX
from snce.text.store import EmbeddingStore
from tests.reliability.kills import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="Windows has no process groups of this kind")

HARVEST = """
from snce.cli import main
from snce.commands import harvest
from snce.text.store import EmbeddingStore
from tests.engines import jobs

def put(self, block, x, write=EmbeddingStore.put):
    write(self, block, x)
    print("part", flush=True)

EmbeddingStore.put, harvest._Worker = put, jobs.BusyWorker
sys.exit(main(sys.argv[1:]))
"""
"""`snce harvest`, whose workers never come to the end of the second block."""

SPREAD = """
from snce.engines.spread import spread
from tests.engines import jobs

try:
    for _ in spread("local", 2, jobs.start, ({argument},), jobs.{work}, [(i,) for i in range(6)]):
        print("busy", flush=True)
        signal.pause()
except KeyboardInterrupt:
    sys.exit(130)
"""


def interrupted(script: str, *arguments: str, after: int) -> tuple[list[str], int, str]:
    """Run a script in a process group of its own, and interrupt all of it as soon as it has printed so many lines.

    Its processes share the pipes that are read here to their end: when this returns, there is none of them any more.

    Returns:
        (what it printed before, its exit code, all that it said of errors)
    """
    # a shell that runs the tests in the background would have it ignore interrupts
    script = f"import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{script}"
    command = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    watchdog = Timer(300, os.killpg, (command.pid, signal.SIGKILL))  # or a defect would have the tests wait for ever
    watchdog.start()
    try:
        assert command.stdout
        lines = [command.stdout.readline().strip() for _ in range(after)]
        os.killpg(command.pid, signal.SIGINT)
        more, errors = command.communicate()
    finally:
        watchdog.cancel()
        if command.returncode is None:
            os.killpg(command.pid, signal.SIGKILL)
    assert more == ""
    return sorted(lines), command.returncode, errors


def test_an_interrupted_harvest_with_workers_is_one_clean_line_and_goes_on(studio, tmp_path, monkeypatch):
    prompts, out = tmp_path / "prompts.txt", tmp_path / "run"
    prompts.write_text("\n".join(f"hat {i}" for i in range(6 * 256)))
    command = ["harvest", studio.model, "--prompts", str(prompts), "--device", "cpu", "--out"]
    lines, code, errors = interrupted(HARVEST, *command, str(out), "--workers", "2", after=3)
    assert lines == ["busy", "busy", "part"]
    assert code == INTERRUPTED
    assert " ".join(errors.split()) == (
        "interrupted; no file is half-written, and a long run goes on when its command is given again"
    )
    blocks, put = [], EmbeddingStore.put
    monkeypatch.setattr(EmbeddingStore, "put", lambda self, block, x: blocks.append(block) or put(self, block, x))
    assert main([*command, str(out)]) == 0
    assert blocks == [1, 2, 3, 4, 5]
    assert list(out.rglob(f"{PREFIX}*")) == []
    assert main([*command, str(tmp_path / "whole")]) == 0
    assert embeddings(out) == embeddings(tmp_path / "whole")


def embeddings(folder: Path) -> bytes:
    (path,) = folder.rglob("embeddings.npy")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("argument", "work", "lines"),
    [
        ("jobs.Endless()", "square", ["busy"] * 2),
        ("'it'", "busy", ["busy"] * 2),
        ("'it'", "half_a_result", ["busy"]),
        ("'it'", "only_the_first", ["busy"] * 3),
    ],
    ids=["while the workers start", "at their work", "within a result", "while a result is used"],
)
def test_workers_end_without_a_word_whatever_they_do(argument, work, lines):
    script = SPREAD.format(argument=argument, work=work)
    assert interrupted(script, after=len(lines)) == (lines, INTERRUPTED, "")
