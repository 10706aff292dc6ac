"""kill -9 at any moment of harvest, train, find and bench: whoever runs the same command again gets the same result."""

from __future__ import annotations

import json
import shutil
from itertools import count
from pathlib import Path
from random import Random

import numpy as np
import pytest

from snce.bench.costs import PREPARE, TIME
from snce.bench.rows import read_rows
from snce.storage import read_tensors
from snce.temporaries import PREFIX
from tests.reliability.kills import Shop, kill_again_and_again
from tests.studio import find, train

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: reads CPU times in /proc")

KILLS = {"harvest": 13, "harvest --workers": 2, "train": 16, "find": 13, "bench": 12}
"""Of the slow suite."""
ALWAYS_ANOTHER = ("progress.json",)
"""Notes the time at which a file was written."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    it = Shop(tmp_path_factory.mktemp("shop"))
    yield it
    it.close()


@pytest.fixture
def fresh(tmp_path):
    """Makes folders."""
    numbers = count()

    def make() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return make


def files_in(folder: Path) -> dict[str, bytes]:
    """All but locks, which hold nothing."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}
    return {name: b"" if path.name in ALWAYS_ANOTHER else path.read_bytes() for name, path in found.items()}


class SameBytes:
    """Finished folders hold the same files, byte for byte; of a run that was killed every file is whole."""

    def __init__(self) -> None:
        self.expected: dict[str, bytes] | None = None
        self.left_behind = 0

    def __call__(self, folder: Path, finished: bool) -> None:
        leftovers = list(folder.rglob(f"{PREFIX}*"))
        if not finished:
            self.left_behind = max(self.left_behind, len(leftovers))
            for path in folder.rglob("[!.]*.safetensors"):
                read_tensors(path, None)
            return
        assert leftovers == []
        found = files_in(folder)
        if self.expected is None:
            self.expected = found
        assert found.keys() == self.expected.keys()
        assert [name for name in found if found[name] != self.expected[name]] == []


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


class SameFigures:
    """The benchmark's rows and figures are the same, but for seconds."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] | None = None
        self.summary = ""
        self.names: set[str] = set()

    def __call__(self, folder: Path, finished: bool) -> None:
        for path in folder.rglob("[!.]*.parquet"):
            read_rows([path])
        if not finished:
            return
        assert list(folder.rglob(f"{PREFIX}*")) == []
        rows, _ = read_rows([folder / "results.parquet"])
        summary = json.loads((folder / "summary.json").read_text())
        for methods in summary.values():
            for found in methods.values():
                for name in (PREPARE, TIME):
                    del found[name]
        names = set(files_in(folder))
        if self.rows is None:
            self.rows, self.summary, self.names = rows, json.dumps(summary), names
        assert json.dumps(summary) == self.summary
        assert names == self.names
        for name, column in rows.items():
            assert np.array_equal(column, self.rows[name], equal_nan=column.dtype.kind == "f")


@pytest.mark.slow
def test_killed_in_the_benchmark_it_goes_on_to_the_same_rows(shop, fresh, emblem_sae):
    pytest.importorskip("pyarrow")

    def with_sae() -> Path:
        folder = fresh()
        shutil.copy(emblem_sae / "sae.safetensors", folder / "sae.safetensors")
        return folder

    def command(out: Path) -> list[str]:
        return ["bench", "--out", str(out), "--methods", "UCE, SNCE", "--concepts", "bomb", "--sets", "1",
                "--no-tune"]  # fmt: skip

    kill_again_and_again(shop, command, with_sae, SameFigures(), KILLS["bench"], Random("bench"), few_prompts=True)
