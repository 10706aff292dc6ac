"""kill -9 at any moment of harvest, train, find and bench: whoever runs the same command again gets the same result."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.reliability.folders import SameBytes, SameFigures
from tests.reliability.kills import Shop, kill_again_and_again
from tests.studio import find, small_bench, train

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: reads CPU times in /proc")

KILLS = {"harvest": 13, "harvest --workers": 2, "train": 16, "find": 13, "bench": 12}
"""Of the slow suite."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    it = Shop(tmp_path_factory.mktemp("shop"))
    yield it
    it.close()


def test_the_slow_suite_kills_at_least_fifty_times():
    assert sum(KILLS.values()) >= 50
    assert {name.split()[0] for name in KILLS} == {"harvest", "train", "find", "bench"}


def test_killed_in_training_and_finding_a_tiny_model_gives_the_same_bytes(studio, shop, fresh):
    """A handful of kills, in every run of the tests."""
    check = SameBytes()
    assert kill_again_and_again(shop, lambda out: train(studio, out), fresh, check, 2, Random(1)) >= 2
    check = SameBytes()
    command = lambda out: find(studio, out / "gun.safetensors")  # noqa: E731
    assert kill_again_and_again(shop, command, fresh, check, 2, Random(2)) >= 2


def emblem_training(out: Path, captions: int, steps: int) -> list[str]:
    small = ("--latents", "64", "--k", "4", "--batch", "16", "--captions", str(captions), "--steps", str(steps))
    return ["train", "emblem", "--out", str(out), "--device", "cpu", *small]


def emblem_harvest(out: Path, captions: int, *more: str) -> list[str]:
    return ["harvest", "emblem", "--out", str(out), "--device", "cpu", "--captions", str(captions), *more]


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["in one process", "in workers"])
def test_killed_in_harvesting_it_goes_on_to_the_same_bytes(shop, fresh, options):
    """Workers end with the process that started them."""
    check, name = SameBytes(), " ".join(("harvest", *options[:1]))
    command = lambda out: emblem_harvest(out, 1500, *options)  # noqa: E731
    kill_again_and_again(shop, command, fresh, check, KILLS[name], Random(name))
    assert {"embeddings.npy", "checksums.bin"} <= {Path(file).name for file in check.expected or ()}


@pytest.mark.slow
def test_killed_in_training_it_goes_on_to_the_same_bytes(shop, fresh):
    check = SameBytes()
    command = lambda out: emblem_training(out, 400, 900)  # noqa: E731
    kill_again_and_again(shop, command, fresh, check, KILLS["train"], Random("train"))
    assert {"sae.safetensors", "checkpoint.safetensors"} <= set(check.expected or ())


@pytest.fixture(scope="module")
def emblem_sae(shop, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sae")
    shop.run(emblem_training(folder, 400, 400), folder)
    return folder


@pytest.mark.slow
def test_killed_in_finding_it_gives_the_same_bytes_when_run_again(shop, fresh, emblem_sae):
    check = SameBytes()

    def command(out: Path) -> list[str]:
        file = str(out / "cigarette.safetensors")
        return ["find", "emblem", "--sae", str(emblem_sae), "--concept", "cigarette", "--out", file, "--device", "cpu"]

    kill_again_and_again(shop, command, fresh, check, KILLS["find"], Random("find"))
    assert set(check.expected or ()) == {"cigarette.safetensors", "cigarette.md", "cigarette.png"}


@pytest.mark.slow
def test_killed_in_the_benchmark_it_goes_on_to_the_same_rows(shop, fresh):
    pytest.importorskip("pyarrow")
    kill_again_and_again(shop, small_bench, fresh, SameFigures(), KILLS["bench"], Random("bench"))
