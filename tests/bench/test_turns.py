"""The time that a method adds: its share is that of the work it adds, and it is measured once."""

import json
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
from rich.console import Console

from snce.bench import lineup, turns
from snce.bench.cells import MAKERS, Bench, Cell
from snce.bench.prompts import Sizes
from snce.bench.turns import added_times

CELL = Cell("twice", None, ("bomb",), Sizes(direct=1, synonym=0, sentence=0, pair=0, neighbour=0, other=0))


class Twice:
    """A method that takes each step of the denoiser to cost two."""

    knob = None

    def __init__(self, clock):
        self.clock = clock

    def prepare(self, _pipe, _concepts):
        return self

    @contextmanager
    def attached(self, pipe):
        hook = pipe.unet.register_forward_hook(lambda *_: self.clock.tick())
        yield
        hook.remove()


class Clock:
    """Counts steps of the denoiser in place of seconds."""

    now = 0.0

    def tick(self, *_):
        self.now += 1


@pytest.fixture
def clock(monkeypatch, laboratory):
    found = Clock()
    hook = laboratory.pipe.unet.register_forward_hook(found.tick)
    monkeypatch.setattr(turns, "time", SimpleNamespace(process_time=lambda: found.now))
    monkeypatch.setattr(turns, "draw", partial(turns.draw, steps=2))
    monkeypatch.setattr(lineup.Workshop, "lab", laboratory)
    for methods in (lineup.METHODS, MAKERS):
        monkeypatch.setitem(methods, "twice", lambda _: Twice(found))
    yield found
    hook.remove()


def test_a_method_that_doubles_the_work_adds_all_of_it_and_is_measured_once(clock, tmp_path):
    bench, console = Bench(tmp_path), Console(quiet=True)
    cells = [Cell("none", None, ("bomb",), CELL.sizes), CELL, Cell("twice", None, ("axe",), CELL.sizes)]
    assert added_times(bench, cells, console) == {("none", 1): 0.0, ("twice", 1): 1.0}
    drawn = clock.now
    assert added_times(bench, cells, console) == {("none", 1): 0.0, ("twice", 1): 1.0}
    assert clock.now == drawn

    (kept,) = (tmp_path / "times").iterdir()
    for damaged in ("{", "[]", json.dumps({"stamp": "of another model", "seconds with over seconds without": [9.0]})):
        kept.write_text(damaged)
        assert added_times(bench, cells, console)["twice", 1] == 1.0
        assert clock.now > drawn
        drawn = clock.now
