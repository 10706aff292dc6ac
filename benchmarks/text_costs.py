"""The steps from captions to a neuron, each timed without loading what it works on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from snce.text.harvest import Embeddings

SHORT, LONG = 8, 40
"""Training steps of two runs; their difference is what steps cost without start and metrics."""
CALIBRATION, TARGETS, NEUTRALS = 2000, 250, 1250
"""Prompts: `snce train` sets thresholds on 2,000 at most; a concept of the recipe has about so many."""


class Spent(NamedTuple):
    seconds: float
    cpu: float


class Clock:
    """Wall and CPU seconds of a block."""

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.spent = Spent(time.perf_counter() - self._wall, time.process_time() - self._cpu)


def harvest_captions(model: Path, cache: Path, captions: list[str]) -> Spent:
    from snce.commands.console import open_pipeline
    from snce.text.harvest import harvest
    from snce.text.towers import TextTower

    tower = TextTower.from_pipeline(open_pipeline(str(model)))
    with Clock() as clock:
        harvest(tower, captions, cache)
    (kinds,) = cache.glob("*/embeddings.npy")
    np.save(kinds.with_name("kinds.npy"), tower.kinds(tower.tokenize(captions)).numpy())
    return clock.spent


def repeat(cache: Path, out: Path, rows: int) -> None:
    """As if so many captions had been harvested."""
    (file,) = cache.glob("*/embeddings.npy")
    few, kinds = np.load(file, mmap_mode="r"), np.load(file.with_name("kinds.npy"))
    out.mkdir(parents=True, exist_ok=True)
    store = np.lib.format.open_memmap(out / "x.npy", mode="w+", dtype=np.float16, shape=(rows, *few.shape[1:]))
    for start in range(0, rows, len(few)):
        store[start : start + len(few)] = few[: rows - start]
    store.flush()
    np.save(out / "kinds.npy", kinds[np.arange(rows) % len(kinds)])


def embeddings(cache: Path, rows: int | None = None) -> Embeddings:
    import torch

    from snce.text.harvest import Embeddings

    x = torch.from_numpy(np.load(cache / "x.npy", mmap_mode="c"))
    return Embeddings(x[:rows], torch.from_numpy(np.load(cache / "kinds.npy"))[:rows])


def train_steps(cache: Path, rows: int, latents: int, k: int, dead_after: int) -> Spent:
    """A hundred steps, by proportion of `LONG - SHORT`."""
    from snce.sae.config import SAEConfig, TrainConfig
    from snce.sae.train import train_sae

    data, spent = embeddings(cache, rows), []
    for steps in (SHORT, LONG):
        with Clock() as clock:
            train_sae(data, SAEConfig(768, latents, k), TrainConfig(steps, dead_after=dead_after))
        spent.append(clock.spent)
    return Spent(*(100 * (b - a) / (LONG - SHORT) for a, b in zip(*spent, strict=True)))


def train_once(cache: Path, out: Path, latents: int, k: int) -> Spent:
    """All but the steps: two of them. Leaves SAE and checkpoint."""
    from snce.sae.config import SAEConfig, TrainConfig
    from snce.sae.formats import save_sae
    from snce.sae.origin import SAEOrigin
    from snce.sae.train import train_sae

    data = embeddings(cache)
    with Clock() as clock:
        sae, _ = train_sae(data, SAEConfig(768, latents, k), TrainConfig(2), out / "checkpoint.safetensors")
    save_sae(sae, out, SAEOrigin("0" * 16, "text_encoder", "final_layer_norm", "StableDiffusionPipeline"))
    return clock.spent


def calibrate(cache: Path, out: Path) -> Spent:
    from snce.sae.formats import load_sae
    from snce.sae.thresholds import calibrate_thresholds

    sae, data = load_sae(out)[0], embeddings(cache, CALIBRATION)
    with Clock() as clock:
        calibrate_thresholds(sae, data)
    return clock.spent


def find(cache: Path, out: Path) -> Spent:
    """The neuron of a concept, from embeddings."""
    from snce.neurons.find import find_neurons
    from snce.sae.formats import load_sae
    from snce.text.harvest import Embeddings

    data = embeddings(cache, TARGETS + NEUTRALS)
    x, sae = data.x.float(), load_sae(out)[0]  # as `snce find` holds them
    target, neutral = (Embeddings(x[at], data.kinds[at]) for at in (slice(TARGETS), slice(TARGETS, None)))
    with Clock() as clock:
        find_neurons(sae, target.halves()[0], neutral.halves()[0])
    return clock.spent
