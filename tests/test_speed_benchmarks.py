"""The benchmarks of docs/speed.md at toy size: they measure what they say, and their tables hold what was measured."""

from __future__ import annotations

import sys

import pytest
import torch
from benchmarks import find, inference
from benchmarks.encoder_calls import AGAIN
from benchmarks.machine import PeakMemory, in_turns, interval, ratio

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture
def small(monkeypatch):
    for name, value in {"POSITIONS": 24, "WIDTH": 128, "LATENTS": 64, "K": 4, "TARGETS": 5}.items():
        monkeypatch.setattr(find, name, value)


@linux
def test_the_search_finds_what_was_hidden_in_the_embeddings(small, tmp_path):
    find.make_embeddings(tmp_path, 100, 12)
    found = find.measure_memory(tmp_path, 100, 12)
    assert found["found"] == found["concepts"] == 12
    timed = find.measure_time(tmp_path, 50, rounds=2)
    text = "\n".join(find.rows({"prompts": 100, "time": timed, "memory": found, "machine": "this one"}))
    assert "| 100 | 0.00 GB | 12 | 12 of 12 |" in text
    assert "| 12 concepts at once |" in text
    assert "50 prompts, medians of 2 turns" in text


def test_every_prompt_that_is_no_target_is_a_neutral_one(small):
    for target, neutral in find.concepts_among(40, 7).values():
        assert sorted([*target, *neutral.tolist()]) == list(range(40))
    assert len(find.concepts_among(40, 7)) == 7
    assert len(find.concepts_among(12, 7)) == 1  # of the others, no target is among these


@linux
def test_peak_memory_is_that_of_what_was_let_go_of_again():
    with PeakMemory() as memory:
        torch.ones(60_000_000).sum()
        torch.ones(20_000_000).sum()
    assert 200e6 < memory.above < 400e6


def test_an_interval_holds_the_median_and_most_of_nothing_else():
    assert interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    middle, low, high = interval([float(i) for i in range(101)])
    assert (middle, low, high) == (50, 40, 60)
    assert ratio([2.0, 4.0, 6.0], [1.0, 4.0, 2.0]) == "2.00 (1.00 to 3.00)"


def test_work_takes_turns():
    done: list[str] = []
    work = {name: lambda name=name: done.append(name) for name in "ab"}
    seconds = in_turns(work, 2, {"b": 2})
    assert "".join(done) == "abb" * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_the_table_of_what_an_eraser_adds():
    it = inference.measure("emblem", rounds=1)
    assert it["bytes"]["1 fire"] == it["bytes"]["1 silent"] < it["bytes"]["100 fire"] < it["bytes"]["itd"]
    assert it["whole_calls"].keys() - it["bytes"].keys() == {"none", AGAIN}
    assert it["in_place"].keys() == it["bytes"].keys()
    lines = list(inference.rows({"emblem": it}, ["emblem"]))
    assert len(lines) == 2 + 1 + 1 + 6 + 2
    assert {line.count("|") for line in lines} == {8}
