"""How much of a training step Adam takes, and how many rows of the weights a step touches: for docs/speed.md.

python -m benchmarks.optimiser_share --threads 1

The settings and the data of benchmarks/sae_training.py. CPU seconds, medians over the last of 150 steps: by then the
latents have parted into those that are in use and those that are not. A row is touched if its gradient is not zero.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from benchmarks.machine import machine
from benchmarks.sae_training import SETTINGS
from benchmarks.sae_training_data import DATA
from benchmarks.sae_training_peer import read
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.train import train_steps
from snce.text.harvest import Embeddings
from snce.text.positions import WORD

STEPS, COUNTED = 150, 30


class Spent(NamedTuple):
    """Medians."""

    step: float
    """CPU seconds."""
    adam: float
    """CPU seconds of these."""
    touched: float
    """Share of the latents."""


def measure(x: torch.Tensor, config: SAEConfig, training: TrainConfig, counted: int = COUNTED) -> Spent:
    """x: rows to train on, float32 [n, d]."""
    data = Embeddings(x[:, None], torch.full((len(x), 1), WORD, dtype=torch.uint8))
    began, adam, whole, touched = [], [], [], []
    hooks = [
        register_optimizer_step_pre_hook(lambda *_: began.append(time.process_time())),
        register_optimizer_step_post_hook(lambda *_: adam.append(time.process_time() - began[-1])),
    ]
    try:
        steps = train_steps(data, config, training)
        sae = next(steps).sae
        for _ in range(training.steps):
            start = time.process_time()
            next(steps)
            whole.append(time.process_time() - start)
            rows = (sae.W_enc.grad != 0).any(1) | (sae.W_dec.grad != 0).any(1)
            touched.append(rows.float().mean().item())
    finally:
        for hook in hooks:
            hook.remove()
    return Spent(*(median(values[-counted:]) for values in (whole, adam, touched)))


def line(config: SAEConfig, spent: Spent) -> str:
    share, saved = spent.adam / spent.step, spent.adam / spent.step * (1 - spent.touched)
    return (
        f"width {config.width}, {config.latents:,} latents: a step {1000 * spent.step:.0f} CPU ms, Adam "
        f"{1000 * spent.adam:.1f} of these ({share:.1%}); a step touches {spent.touched:.0%} of the rows: without the "
        f"others it would take {saved:.1%} less"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name, it in SETTINGS.items():
        config = SAEConfig.plain(it.width, latents=it.latents, k=it.k)
        training = TrainConfig(STEPS, it.batch, it.lr, dead_after=it.dead_after, held_out=0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.f32"
            made = DATA[name](it.width, it.latents, STEPS * it.batch, path)
            spent = measure(read(str(path), made.rows, it.width), config, training)
        print(f"{name}, {line(config, spent)}", flush=True)
    print(f"{machine(args.threads)}.")


if __name__ == "__main__":
    main()
