"""Bootstrap intervals of a method's figures, and of how far one method is ahead of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from snce.bench.measures import frechet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from snce.bench.measures import Columns


class Interval(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class _Rows(dict):
    """Rows drawn by their numbers, a column at a time and only if it is asked for: the features are large."""

    def __init__(self, rows: Columns, index: np.ndarray):
        super().__init__()
        self._rows, self._index = rows, index

    def __missing__(self, name: str) -> np.ndarray:
        self[name] = column = self._rows[name][self._index]
        return column


def bootstrap(
    rows: Columns, measures: Mapping[str, Callable[[Columns], float]], samples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """95 % intervals of the measures: sets of erased concepts are drawn with replacement, and of each its pictures.

    So they cover both what another choice of concepts and what other prompts would have given; of the noise they know
    nothing that is common to all concepts, whose prompts have the same seeds. All measures are taken on the same
    samples; the Fréchet distance, which takes a thousand times as long as a share, on a fifth of them. Pictures that
    are drawn twice enlarge it: its interval is shifted by the mean of the samples less the value.
    """
    drawn: dict[str, list[float]] = {name: [] for name in measures}
    for n, index in enumerate(_draws(rows, samples, seed)):
        sample = _Rows(rows, index)
        for name, measure in measures.items():
            if measure is not frechet or n < max(1, samples // 5):
                drawn[name].append(measure(sample))
    return {name: _interval(measure, measure(rows), drawn[name]) for name, measure in measures.items()}


def difference(
    rows: Columns, others: Columns, measure: Callable[[Columns], float], samples: int = 1000, seed: int = 0
) -> Interval:
    """The measure of `rows` less that of `others`, the same prompts by another method, with its 95 % interval.

    Both are taken on the same samples, as in `bootstrap`: what makes a concept or a prompt hard for either does not
    count, so that a difference may be sure where the intervals of the two overlap.

    Raises:
        ValueError: the rows are not of the same prompts in the same order.
    """
    if any(not np.array_equal(rows[name], others[name]) for name in ("erased", "kind", "prompt")):
        raise ValueError("the rows to compare are of other prompts")
    drawn = [measure(_Rows(rows, i)) - measure(_Rows(others, i)) for i in _draws(rows, samples, seed)]
    return _interval(measure, measure(rows) - measure(others), drawn)


def _draws(rows: Columns, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Numbers of rows: sets of erased concepts with replacement, and as many rows of each as it has."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(rows["erased"] == name) for name in dict.fromkeys(rows["erased"].tolist())]
    for _ in range(samples):
        chosen = [groups[i] for i in rng.integers(len(groups), size=len(groups))]
        yield np.concatenate([rng.choice(group, len(group)) for group in chosen])


def _interval(measure: Callable[[Columns], float], value: float, drawn: list[float]) -> Interval:
    told = np.array(drawn)[np.isfinite(drawn)]  # the samples that have a picture of the kind
    low, high = np.percentile(told, [2.5, 97.5]) if len(told) else (float("nan"),) * 2
    if measure is frechet:
        low, high = np.maximum(0, np.array([low, high]) - (told.mean() - value))
    return Interval(value, float(low), float(high))
