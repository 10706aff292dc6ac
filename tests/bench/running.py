"""The benchmark on the embedded model, made small: few prompts, costs of a few steps, the SAE of the tests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from snce.bench import lineup, plan, tuning, turns
from snce.bench.prompts import Sizes
from snce.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from snce.sae.train import TrainResult

SIZES = Sizes(direct=2, synonym=1, sentence=1, pair=2, neighbour=1, other=1)
TUNED_ON = ["laptop"]
TUNED_SET = ["laptop", "rainbow"]
OPTIONS = ("--methods", "UCE, SNCE", "--concepts", "bomb,twemoji", "--sets", "1")


def shrink(patch: pytest.MonkeyPatch, trained: TrainResult) -> None:
    patch.setattr(lineup.Workshop, "sae", trained.sae)
    patch.setattr(plan, "sizes_for", lambda _: SIZES)
    patch.setattr(tuning, "TUNING_SIZES", SIZES)
    patch.setattr(tuning, "SET_SIZES", SIZES)
    patch.setattr(tuning, "tuning_concepts", lambda: TUNED_ON)
    patch.setattr(tuning, "tuning_set", lambda: TUNED_SET)
    patch.setattr(turns, "TURNS", 1)
    patch.setattr(turns, "draw", partial(turns.draw, steps=1))


def bench(folder: Path, *options: str) -> int:
    """The exit code of the command with OPTIONS, or others in their place."""
    return main(["bench", "--out", str(folder), *OPTIONS, *options])
