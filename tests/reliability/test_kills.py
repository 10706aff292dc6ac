"""kill -9 at any moment of a command: whoever runs the same command again gets the same result."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.bench.suites.tiny import NAMES, tiny_classifier, write_csv
from tests.reliability.folders import SameBytes, SameFigures
from tests.reliability.kills import Shop, kill_again_and_again
from tests.studio import find, generate_all, small_bench, train

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: reads CPU times in /proc")

KILLS = {
    "harvest": 10,
    "harvest --workers": 2,
    "train": 8,
    "train --support position": 6,
    "train in two threads": 3,
    "train --support position in two threads": 3,
    "find": 10,
    "generate --prompts": 8,
    "bench": 8,
    "bench --suite": 6,
}
"""Of the slow suite."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    it = Shop(tmp_path_factory.mktemp("shop"))
    yield it
    it.close()


@pytest.fixture
def threaded(shop, threads):
    """A shop whose commands run in so many threads."""
    it = shop if threads == shop.threads else Shop(shop.scratch, threads)
    yield it
    if it is not shop:
        it.close()


def test_the_slow_suite_kills_at_least_fifty_times():
    assert sum(KILLS.values()) >= 50
    assert {name.split()[0] for name in KILLS} == {"harvest", "train", "find", "generate", "bench"}


def test_killed_in_training_and_finding_a_tiny_model_gives_the_same_bytes(studio, shop, fresh):
    """A handful of kills, in every run of the tests."""
    check = SameBytes()
    assert kill_again_and_again(shop, lambda out: train(studio, out), fresh, check, 2, Random(1)) >= 2
    check = SameBytes()
    command = lambda out: find(studio, out / "gun.safetensors")  # noqa: E731
    assert kill_again_and_again(shop, command, fresh, check, 2, Random(2)) >= 2


def emblem_training(out: Path, captions: int, steps: int, *more: str) -> list[str]:
    small = ("--latents", "64", "--k", "4", "--batch", "16", "--captions", str(captions), "--steps", str(steps))
    return ["train", "emblem", "--out", str(out), "--device", "cpu", *small, *more]


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
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("options", [(), ("--support", "position")], ids=["prompt code", "position code"])
def test_killed_in_training_it_goes_on_to_the_same_bytes(threaded, threads, fresh, options):
    """Prompt codes by automatic differentiation, position codes by the closed form and its sparse products."""
    check, name = SameBytes(), " ".join(("train", *options)) + " in two threads" * (threads - 1)
    command = lambda out: emblem_training(out, 300, 500, *options)  # noqa: E731
    kill_again_and_again(threaded, command, fresh, check, KILLS[name], Random(name))
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


@pytest.mark.slow
def test_killed_in_drawing_a_folder_of_pictures_it_goes_on_to_the_same_bytes(studio, shop, fresh):
    check = SameBytes()
    command = lambda out: generate_all(studio, out)  # noqa: E731
    kill_again_and_again(shop, command, fresh, check, KILLS["generate --prompts"], Random("generate"))
    assert {"000001.png", "prompts.csv", "settings.json"} <= set(check.expected or ())


@pytest.mark.slow
def test_killed_in_a_suite_it_goes_on_to_the_same_rows_and_pictures(studio, shop, fresh, tmp_path):
    pytest.importorskip("pyarrow")
    rows = [{"prompt": f"a {name}", "class": name, "evaluation_seed": 7 + i} for i, name in enumerate(NAMES)]
    source, judge = write_csv(tmp_path / "objects.csv", rows), tiny_classifier(tmp_path / "net")
    suite = ["bench", "--suite", "imagenette", "--model", studio.model, "--prompts", source, "--classifier", judge,
             "--concepts", "church", "--methods", "UCE", "--steps", "2", "--chunk", "1"]  # fmt: skip
    check, name = SameFigures(), "bench --suite"
    kill_again_and_again(shop, lambda out: [*suite, "--out", str(out)], fresh, check, KILLS[name], Random(name))
    assert len(check.pictures) == 2 * len(NAMES)
