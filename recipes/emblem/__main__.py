"""All steps in order: `python -m recipes.emblem`. Trainings go on where they were killed; finished ones are kept."""

from __future__ import annotations

import os
import subprocess
import sys

STEPS = ("fetch", "vocabulary", "rasterise", "autoencoder", "tokenizer", "text_encoder", "pool", "unet", "judge",
         "assemble", "evaluate")  # fmt: skip

SHARED = ("autoencoder", "unet")
"""Steps that several processes share, a core each."""


def command(step: str) -> list[str]:
    cores = len(os.sched_getaffinity(0))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(cores)] if cores > 1 else []
    return [sys.executable, *(launcher if step in SHARED else []), "-m", f"recipes.emblem.{step}"]


def main() -> None:
    for step in STEPS:
        print(f"== {step}", flush=True)
        subprocess.run(command(step), check=True)


if __name__ == "__main__":
    main()
