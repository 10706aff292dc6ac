"""Work in processes: every item once, no more in memory than are in work, errors as they were raised."""

import subprocess
import sys

import pytest

from snce.cli import main
from snce.commands import harvest
from snce.engines.spread import check_engine, spread
from snce.errors import SnceError
from snce.text.store import EmbeddingStore
from tests.engines import jobs


def test_every_item_is_done_once_and_items_are_read_as_workers_get_free():
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield (i,)

    results = spread("local", 2, jobs.start, ("it",), jobs.square, items())
    found = []
    for result in results:
        # two in hand for each worker, and as many that are done and not handed over yet
        assert len(taken) - len(found) <= 8
        found.append(result)
    assert sorted(found) == [(i, i * i, ["it"], 1) for i in range(20)]


def test_errors_of_the_start_of_the_work_and_of_lost_processes_are_told(capfd):
    with pytest.raises(SnceError, match=r"^it cannot be begun$"):
        list(spread("local", 2, jobs.refuse_to_start, ("it",), jobs.square, [(1,), (2,)]))
    with pytest.raises(SnceError, match=r"^the third is refused$"):
        list(spread("local", 1, jobs.start, ("it",), jobs.refuse, ((i,) for i in range(9))))
    assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(SnceError, match=r"a worker process ended.*goes on"):
        list(spread("local", 1, jobs.start, ("it",), jobs.die, [(1,)]))


def test_a_harvest_that_has_lost_a_worker_goes_on_to_the_same_bytes(studio, tmp_path, monkeypatch, capsys):
    """By SIGKILL, at its work: see `jobs.MortalWorker`."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"a hat of {i} feathers" for i in range(10 * 256)))
    command, put, blocks = ["harvest", studio.model, "--prompts", str(prompts)], EmbeddingStore.put, []
    monkeypatch.setattr(EmbeddingStore, "put", lambda self, block, x: blocks.append(block) or put(self, block, x))
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    assert blocks == list(range(10))
    command += ["--out", str(tmp_path / "again"), "--workers", "2"]
    blocks.clear()
    with monkeypatch.context() as patch:
        patch.setattr(harvest, "_Worker", jobs.MortalWorker)
        assert main(command) == 2
    complaint = " ".join(capsys.readouterr().err.split())
    assert complaint.count("error: ") == complaint.count("a worker process ended before its work was done") == 1
    kept = set(blocks)
    assert 0 < len(kept) < 10
    blocks.clear()
    assert main(command) == 0
    assert sorted(blocks) == sorted(set(range(10)) - kept)
    for name in ("embeddings.npy", "checksums.bin"):
        whole, again = (next((tmp_path / place).rglob(name)).read_bytes() for place in ("whole", "again"))
        assert whole == again


def test_engines_that_cannot_be_used_are_refused():
    with pytest.raises(SnceError, match="at least 1"):
        check_engine("local", 0)
    with pytest.raises(SnceError, match="not one of local, ray"):
        check_engine("cloud", None)


WITHOUT_RAY = """
import sys
sys.modules["ray"] = None  # as if it were not installed
from snce.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "command",
    ["harvest emblem --out x", "generate emblem --prompt a --out x.png", "bench --out x", "bench --suite coco --out x"],
)
def test_without_ray_the_extra_is_named_before_any_work(tmp_path, command):
    command = [sys.executable, "-c", WITHOUT_RAY, *command.split(), "--engine", "ray"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "pip install 'snce[ray]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_training_finds_what_harvest_has_made(studio, tmp_path, capsys, monkeypatch):
    """By processes, block by block; `snce train` then encodes nothing."""
    from snce.text import harvest as module
    from tests.studio import train

    options = ("--prompts", str(studio.prompts))
    assert main(["harvest", studio.model, *options, "--out", str(tmp_path), "--workers", "2"]) == 0
    assert "112 prompts x 16 positions x 32" in capsys.readouterr().out
    assert main(["harvest", studio.model, *options, "--out", str(tmp_path), "--verify"]) == 0
    monkeypatch.delattr(module, "encode_blocks")
    assert main(train(studio, tmp_path)) == 0
    assert (tmp_path / "sae.safetensors").read_bytes() == (studio.sae / "sae.safetensors").read_bytes()
