"""Work on a Ray cluster of this machine: the results of the local engine, bit for bit, although a worker is killed.

Run with `make ray`, in an environment with the extra `ray`.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import warnings

import numpy as np
import psutil
import pytest
from rich.console import Console

from snce.bench.cells import Bench, Cell
from snce.bench.execute import run_cell, run_cells
from snce.bench.prompts import Sizes
from snce.bench.rows import read_rows
from snce.cli import main
from snce.commands import harvest
from snce.commands.picture_files import Series
from snce.emblem.corpus import captions_for_training
from snce.engines import ray as engine
from snce.engines.spread import Crew, spread
from snce.errors import SnceError
from snce.text.store import EmbeddingStore
from tests.bench.suites.tiny import NAMES, tiny_classifier, write_csv
from tests.engines import jobs

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init("local", num_cpus=3, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    yield
    ray.shutdown()


def actors() -> list[int]:
    """Process ids of the actors of this cluster."""
    names = ((p.pid, p.cmdline()) for p in psutil.Process().children(recursive=True) if p.is_running())
    return sorted(pid for pid, name in names if name and name[0].startswith("ray::_Actor"))


class Killer:
    """Kills some actors, once, when so many results are there."""

    def __init__(self, after: int, actors: int = 1) -> None:
        self.left, self.actors, self.killed = after, actors, []

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.killed = actors()[: self.actors]
            for pid in self.killed:
                os.kill(pid, signal.SIGKILL)


def assert_same_rows(rows: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
    """Every column, bit for bit."""
    assert rows.keys() == others.keys()
    for name, column in rows.items():
        other = others[name]
        assert (column.dtype, column.shape) == (other.dtype, other.shape), name
        if column.dtype == object:  # texts
            assert np.array_equal(column, other), name
        else:
            assert column.tobytes() == other.tobytes(), name


def test_every_item_is_done_once_although_a_worker_is_killed():
    killer, found = Killer(5), []
    for result in spread("ray", 2, jobs.start, ("it",), jobs.square, ((i,) for i in range(40))):
        found.append(result)
        killer()
    assert sorted(found) == [(i, i * i, ["it"], 1) for i in range(40)]
    assert len(killer.killed) == 1
    assert not psutil.pid_exists(killer.killed[0])


def test_more_workers_than_the_cluster_has_room_for_do_the_work_as_well():
    found = spread("ray", 5, jobs.start, ("it",), jobs.square, ((i,) for i in range(12)))
    assert sorted(n for n, *_ in found) == list(range(12))


def test_a_cluster_without_room_for_a_single_worker_is_told_and_waited_for(monkeypatch):
    monkeypatch.setattr(engine, "_PATIENCE", 0.1)
    holder = ray.remote(engine._Actor).options(num_cpus=3).remote(jobs.start, ("it",))
    ray.get(holder.is_there.remote())
    told = []

    def free(message, *_where, **_more):
        told.append(str(message))
        ray.kill(holder)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", free)
        found = list(spread("ray", 2, jobs.start, ("it",), jobs.square, ((i,) for i in range(6))))
    assert sorted(n for n, *_ in found) == list(range(6))
    assert len(told) == 1
    assert "2 are asked for, each with 1 CPU; on the Ray cluster, 0 of 3 CPUs are free" in told[0]


def test_a_worker_whose_model_is_another_one_ends_the_command(studio, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harvest, "name_for_workers", lambda _: studio.other_model)
    command = ["harvest", studio.model, "--prompts", str(studio.prompts), "--out", str(tmp_path)]
    assert main([*command, "--engine", "ray", "--workers", "1"]) == 2
    assert "has other files under the same names: text_encoder" in " ".join(capsys.readouterr().err.split())


def test_errors_are_told_as_they_were_raised():
    with pytest.raises(SnceError, match=r"^the third is refused$"):
        list(spread("ray", 1, jobs.start, ("it",), jobs.refuse, ((i,) for i in range(9))))
    with pytest.raises(SnceError, match=r"^it cannot be begun$"):
        list(spread("ray", 1, jobs.refuse_to_start, ("it",), jobs.square, [(1,)]))


def test_work_that_kills_its_process_every_time_ends_the_run():
    with pytest.raises(SnceError, match="was lost, 4 times on end"):
        list(spread("ray", 1, jobs.start, ("it",), jobs.die, [(1,)]))


def test_embeddings_of_emblem_are_the_same_although_a_worker_is_killed(tmp_path, monkeypatch):
    command = ["harvest", "emblem", "--captions", "1600", "--device", "cpu", "--workers", "2"]
    assert main([*command, "--out", str(tmp_path / "near")]) == 0
    killer, put = Killer(2), EmbeddingStore.put

    def put_and_kill(self, block, x):
        put(self, block, x)
        killer()

    monkeypatch.setattr(EmbeddingStore, "put", put_and_kill)
    assert main([*command, "--out", str(tmp_path / "far"), "--engine", "ray"]) == 0
    assert killer.killed
    for name in ("embeddings.npy", "checksums.bin"):
        files = [next((tmp_path / place).rglob(name)).read_bytes() for place in ("far", "near")]
        assert files[0] == files[1]


def test_pictures_of_emblem_are_the_same_although_a_worker_is_killed(tmp_path, monkeypatch):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(captions_for_training(8, 0)))
    command = ["generate", "emblem", "--prompts", str(prompts), "--steps", "4", "--device", "cpu", "--workers", "2"]
    assert main([*command, "--out", str(tmp_path / "near")]) == 0
    killer, put = Killer(2), Series.put

    def put_and_kill(self, number, image):
        put(self, number, image)
        killer()

    monkeypatch.setattr(Series, "put", put_and_kill)
    assert main([*command, "--out", str(tmp_path / "far"), "--engine", "ray"]) == 0
    assert killer.killed
    near, far = ({p.name: p.read_bytes() for p in (tmp_path / place).iterdir()} for place in ("near", "far"))
    assert near == far
    assert len([name for name in far if name.endswith(".png")]) == 8


def test_cells_of_the_benchmark_are_the_same_although_a_worker_is_killed(tmp_path, monkeypatch):
    sizes = Sizes(direct=2, synonym=1, sentence=1, pair=1, neighbour=1, other=1)
    cells = [Cell("UCE", None, (concept,), sizes) for concept in ("bomb", "cigarette")]
    killer, progress, interrupted = Killer(1, actors=2), io.StringIO(), []
    bench, parts = Bench(tmp_path / "far"), tmp_path / "far" / "parts"
    from snce.bench import execute

    finished = execute._finished

    def finished_and_kill(*arguments):
        for i, cell in enumerate(finished(*arguments)):
            yield cell
            killer()
            if i == 0:
                interrupted.extend(other for other in cells if not execute.part_of(other, parts).exists())

    monkeypatch.setattr(execute, "_finished", finished_and_kill)
    run_cells(bench, cells, parts, Crew(2, "ray"), Console(file=progress), "cells")
    assert killer.killed
    assert len(interrupted) == 1  # it was handed out, to one of the actors: all of them were killed
    near = Bench(tmp_path / "near")
    for cell in cells:
        run_cell(near, cell, tmp_path / "near" / "parts")
    for cell in cells:
        rows = [read_rows([tmp_path / place / "parts" / f"{cell.key}.parquet"])[0] for place in ("near", "far")]
        assert_same_rows(*rows)
        strips = [(tmp_path / place / "parts" / f"{cell.key}.png").read_bytes() for place in ("near", "far")]
        assert strips[0] == strips[1]


def test_suites_are_the_same_although_a_worker_is_killed(studio, tmp_path, monkeypatch):
    rows = [{"prompt": f"a {name}", "class": name, "evaluation_seed": 7 + i} for i, name in enumerate(NAMES)]
    source, judge = write_csv(tmp_path / "objects.csv", rows), tiny_classifier(tmp_path / "net")
    command = ["bench", "--suite", "imagenette", "--model", studio.model, "--prompts", source, "--classifier", judge,
               "--concepts", "church", "--methods", "UCE", "--steps", "2", "--chunk", "1"]  # fmt: skip
    monkeypatch.chdir(tmp_path)  # the actors were not begun here
    assert main([*command, "--out", "near"]) == 0
    from snce.bench.suites import execute

    killer, done = Killer(7), execute._done

    def done_and_kill(*arguments):
        for part in done(*arguments):
            yield part
            killer()

    monkeypatch.setattr(execute, "_done", done_and_kill)
    assert main([*command, "--out", "far", "--engine", "ray", "--workers", "2"]) == 0
    assert killer.killed
    near, far = (read_rows([tmp_path / place / "results.parquet"])[0] for place in ("near", "far"))
    assert_same_rows(near, far)
    drawn = [
        {str(p.relative_to(tmp_path / place)): p.read_bytes() for p in (tmp_path / place / "pictures").rglob("*.png")}
        for place in ("near", "far")
    ]
    assert drawn[0] == drawn[1]
    assert len(drawn[1]) == 2 * len(NAMES)
