"""Times on a machine that others use, too: CPU seconds, in turns, with what they were taken on."""

from __future__ import annotations

import os
import platform
import time
from math import sqrt
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def in_turns(
    work: Mapping[str, Callable[[], object]], rounds: int, repeat: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """CPU seconds of this process for each piece of work, once in every round: what slows the machine for a while slows
    all of them. One more round goes first and does not count.

    Args:
        repeat: how many times in a row, where that is not once; the seconds are those of one time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for i in range(rounds + 1):
        for name, function in work.items():
            times = (repeat or {}).get(name, 1)
            start = time.process_time()
            for _ in range(times):
                function()
            if i:
                seconds[name].append((time.process_time() - start) / times)
    return seconds


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median with its 95 % interval, by order statistics; of fewer than six values, with the lowest and the highest."""
    ranked, n = sorted(values), len(values)
    low = max(0, int(n / 2 - 0.98 * sqrt(n)))
    return median(ranked), ranked[low], ranked[n - 1 - low]


def ratio(a: Sequence[float], b: Sequence[float]) -> str:
    """Of a / b over the rounds: `interval`, written out."""
    middle, low, high = interval([x / y for x, y in zip(a, b, strict=True)])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def machine(threads: int) -> str:
    """What a table was measured on, in one line."""
    import torch

    here = Path("/proc/cpuinfo")
    lines = here.read_text().splitlines() if here.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    used = f"{threads} thread{'s' if threads > 1 else ''}"
    return f"{model}, {os.cpu_count()} cores, {used}; PyTorch {torch.__version__}"
