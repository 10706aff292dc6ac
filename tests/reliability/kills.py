"""Running a command, killing it with SIGKILL at chosen moments of its work, running it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

ROOT = Path(__file__).parents[2]
MOST_KILLS = 4
"""In one folder. What starts anew in each run would never come to its end."""
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Outcome(NamedTuple):
    code: int
    """0, 2 for a clear error, -9 for a process that was killed."""
    operations: int
    """On files, if it came to its end."""
    seconds: float
    """Of CPU time, about."""
    output: str


@dataclass
class Shop:
    """Starts commands in a process that has everything imported: see `tests.reliability.victim`."""

    scratch: Path
    threads: int = 1
    """Of PyTorch, in each command."""
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        # passive: on a busy machine, threads that spin for others take many times as long
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "MPLBACKEND": "agg"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.victim"],
            cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._line() == "ready"

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def run(
        self,
        command: list[str],
        folder: Path,
        *,
        kill_at: int | None = None,
        kill_after: float | None = None,
        largest_file: int | None = None,
    ) -> Outcome:
        """Run a command.

        Args:
            folder: where it writes.
            kill_at: it dies just before this operation on a file under the folder.
            kill_after: its whole process group is killed when it has had so many seconds of CPU time.
            largest_file: bytes after which writing fails, as on a full disk.
        """
        log, counted = self.scratch / "log", self.scratch / "counted"
        counted.unlink(missing_ok=True)
        job = {"command": command, "folder": str(folder), "kill_at": kill_at, "largest_file": largest_file,
               "threads": self.threads}  # fmt: skip
        assert self.process.stdin
        self.process.stdin.write(json.dumps(job | {"log": str(log), "counted": str(counted)}) + "\n")
        self.process.stdin.flush()
        pid = int(self._line())
        seconds = _watch(pid, kill_after)
        code = int(self._line())
        output = log.read_text()
        assert code in (0, 2, -signal.SIGKILL), output
        return Outcome(code, int(counted.read_text()) if code >= 0 else 0, seconds, output)

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


def _watch(pid: int, kill_after: float | None) -> float:
    """Wait for the end of a process, or bring it about. Returns the CPU seconds that it had."""
    stat, seconds = Path(f"/proc/{pid}/stat"), 0.0
    while True:
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return seconds
        if fields[0] == "Z":
            return seconds
        seconds = (int(fields[11]) + int(fields[12])) / _TICK
        if kill_after is not None and seconds >= kill_after:
            os.killpg(pid, signal.SIGKILL)
            return seconds
        time.sleep(0.001)


def kill_again_and_again(
    shop: Shop,
    command: Callable[[Path], list[str]],
    fresh: Callable[[], Path],
    check: Callable[[Path, bool], None],
    kills: int,
    random: Random,
) -> int:
    """Run a command, kill it at a random operation or CPU second, run it again and so on, four kills at most, until it
    is done; all that again in fresh folders, until it was killed `kills` times. Returns how often it was.

    Args:
        fresh: makes a folder.
        check: is called with the folder after every run, and whether the run came to its end.
    """
    folder = fresh()
    whole = shop.run(command(folder), folder)
    check(folder, True)
    killed = 0
    while killed < kills:
        folder, most = fresh(), min(MOST_KILLS, kills - killed)
        for attempt in count():
            if attempt >= most:
                moment = {}
            elif random.random() < 0.5:
                moment = {"kill_at": random.randint(1, whole.operations)}
            else:
                moment = {"kill_after": random.uniform(0, whole.seconds)}
            outcome = shop.run(command(folder), folder, **moment)
            check(folder, outcome.code == 0)
            if outcome.code == 0:
                break
            assert outcome.code == -signal.SIGKILL, outcome.output
            killed += 1
    return killed
