"""Judging many erasers: how many processes do it is no matter for what is found."""

from __future__ import annotations

import subprocess
import sys

from snce.demo.workers import Trial, judge_trials

SIZES = {"direct": 2, "pairs": 1, "retain": 2}
TRIALS = [Trial("bomb"), Trial("violin", 1.0), Trial("bomb", 0.0)]


def test_two_processes_find_what_one_finds(laboratory, trained, tmp_path):
    def rows(workers):
        found = judge_trials(laboratory, trained.sae, TRIALS, tmp_path / str(workers), workers, SIZES)
        return {trial: repr(row) for trial, row in found}

    alone = rows(1)
    assert set(alone) == set(TRIALS)
    assert rows(2) == alone


def test_trials_keep_their_own_settings(laboratory, trained, tmp_path):
    found = dict(judge_trials(laboratory, trained.sae, [Trial("bomb", 0.0), Trial("bomb", 2.0)], tmp_path, 1, SIZES))
    for trial, row in found.items():
        assert row["concept"] == trial.concept
        assert row["strength"] == trial.strength
    assert found[Trial("bomb", 0.0)]["identical"] == 1
    assert found[Trial("bomb", 0.0)]["erased_rate"] == found[Trial("bomb", 0.0)]["base_rate"]


FAMILY = """
import multiprocessing, threading
from concurrent.futures import ProcessPoolExecutor
from snce.engines.local import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        pool.submit(print, "a worker is up", flush=True)
        threading.Event().wait()
"""


def test_a_worker_ends_with_a_killed_parent(tmp_path):
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "a worker is up\n"
        parent.kill()
        assert parent.stdout.read() == ""  # ends when the worker, which holds the other end, has ended
