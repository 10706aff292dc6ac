"""Judging many erasers, in this process or in several."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from snce.demo.judging import judge_eraser
from snce.demo.laboratory import Laboratory
from snce.demo.prompts import test_set
from snce.engines.local import in_processes
from snce.erase.build import STRENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from snce.sae.model import SparseAutoencoder

SIZES = {"direct": 16, "pairs": 12, "retain": 32}
"""Test prompts per concept."""


@dataclass(frozen=True)
class Trial:
    """One eraser of one neuron."""

    concept: str
    strength: float = STRENGTH
    rule: str = "modulated"
    """Chooses the neuron."""


def judge_trials(
    lab: Laboratory,
    sae: SparseAutoencoder,
    trials: Iterable[Trial],
    pictures: Path,
    workers: int = 1,
    sizes: dict[str, int] = SIZES,
) -> Iterator[tuple[Trial, dict]]:
    """(trial, what was found), as they are done. Pictures without an eraser are kept in the folder `pictures`."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.concept, []).append(trial)  # in one process, which draws the pictures before once
    if workers == 1 or len(groups) < 2:
        for group in groups.values():
            yield from _judge(lab, sae, group, pictures, sizes)
        return
    setting = (lab.captions, sae, pictures, sizes)
    for results in in_processes(workers, _Worker.start, setting, _Worker.judge, zip(groups.values(), strict=True)):
        yield from results


def _judge(
    lab: Laboratory, sae: SparseAutoencoder, trials: list[Trial], pictures: Path, sizes: dict[str, int]
) -> list[tuple[Trial, dict]]:
    results = []
    for trial in trials:
        eraser = lab.eraser(sae, **asdict(trial))
        seen = judge_eraser(lab, test_set(trial.concept, **sizes), eraser, pictures)
        card = eraser.card[trial.concept]["neurons"][0]
        results.append((trial, {"concept": trial.concept, **card, "strength": trial.strength, **asdict(seen)}))
    return results


class _Worker:
    """A process with a laboratory of its own."""

    setting: tuple[Laboratory, SparseAutoencoder, Path, dict[str, int]]

    @classmethod
    def start(cls, captions: int, sae: SparseAutoencoder, pictures: Path, sizes: dict[str, int]) -> None:
        cls.setting = Laboratory(captions, progress=False), sae, pictures, sizes

    @classmethod
    def judge(cls, trials: list[Trial]) -> list[tuple[Trial, dict]]:
        lab, sae, pictures, sizes = cls.setting
        return _judge(lab, sae, trials, pictures, sizes)
