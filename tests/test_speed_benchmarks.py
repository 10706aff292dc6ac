"""The benchmarks of docs/speed.md at toy size: they measure what they say, and their tables hold what was measured."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace

import pytest
import torch
from benchmarks import encoder_calls, inference
from benchmarks.encoder_calls import AGAIN, Call
from benchmarks.machine import PeakMemory, in_turns, interval, ratio

from snce.emblem.load import load
from snce.erase import watch
from snce.text.towers import TextTower

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


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
    assert {line.count("|") for line in lines} == {9}


def test_an_edit_is_compared_with_the_encoder_in_the_same_call():
    call = Call(edit=0.002, watching=0.001, encoder=0.1)
    it = {"cpu_seconds": {"1 fire edit": [0.001]}, "in_place": {"1 fire": [call]}, "bytes": {"1 fire": 2000}}
    assert inference.cells(it, "1 fire") == "2.0 KB | 1.000 | 2.000 | 1.000 | 3.00% (3.00% to 3.00%)"


def test_what_an_eraser_does_around_the_call_counts(monkeypatch):
    """By a clock that ticks when it is read, and when the pipeline's call is watched."""
    pipe = load()
    tower = TextTower.from_pipeline(pipe)
    ticks = itertools.count()
    monkeypatch.setattr(encoder_calls, "time", SimpleNamespace(process_time=lambda: next(ticks)))
    watched = watch._positive_calls
    monkeypatch.setattr(watch, "_positive_calls", lambda *told: [next(ticks), watched(*told)][1])
    eraser = inference.eraser_of(1, tower.width, tower.fingerprint, True)
    nothing = SimpleNamespace(edit=lambda x, kinds: x)
    with torch.no_grad():
        calls = encoder_calls.in_place(pipe, tower, "a red church", {"eraser": eraser}, {"peer": nothing}, None, 2)
    assert calls == {"eraser": [Call(1, 3, 2)] * 2, "peer": [Call(1, 2, 2)] * 2}
    assert "encode_prompt" not in vars(pipe)
