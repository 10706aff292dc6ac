"""Time and memory on a machine that others use, too: CPU seconds in turns, the peak of a process's own memory."""

from __future__ import annotations

import os
import platform
import threading
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


class PeakMemory:
    """The most memory of its own that a process (this one) held within the block, above what it held before; bytes.
    Pages of a memory-mapped file are not counted: the system takes them back when it likes."""

    def __init__(self, process: int | None = None) -> None:
        self._process = process

    def __enter__(self) -> PeakMemory:
        self._before = self.peak = anonymous(self._process)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.above = self.peak - self._before

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.peak = max(self.peak, anonymous(self._process))


def anonymous(process: int | None = None) -> int:
    """Bytes that a process (this one) holds of its own, without pages of files."""
    for line in Path(f"/proc/{process or 'self'}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    raise SystemExit("memory is measured on Linux only")
