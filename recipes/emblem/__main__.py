"""All steps in order: `python -m recipes.emblem`. Trainings go on where they were killed; finished ones are kept."""

from __future__ import annotations

import subprocess
import sys

STEPS = ("fetch", "vocabulary", "rasterise", "autoencoder", "tokenizer", "text_encoder", "pool", "unet", "judge",
         "assemble", "evaluate")  # fmt: skip


def main() -> None:
    for step in STEPS:
        print(f"== {step}", flush=True)
        subprocess.run([sys.executable, "-m", f"recipes.emblem.{step}"], check=True)


if __name__ == "__main__":
    main()
