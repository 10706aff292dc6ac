"""Emblem with an SAE trained on its text encoder: what the demo and the table of all concepts share."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from snce.demo.measure import Pictures
from snce.demo.pictures import draw
from snce.emblem.concepts import load_concept
from snce.emblem.corpus import captions_for_training
from snce.emblem.load import STEPS, load, load_judge
from snce.erase.build import build_eraser
from snce.neurons.calibrate import calibrate_thresholds
from snce.neurons.find import NeuronCard, find_neurons
from snce.sae.train import TrainConfig, TrainResult, train_sae
from snce.text.harvest import Embeddings, harvest
from snce.text.towers import TextTower, weights_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from diffusers import StableDiffusionPipeline

    from snce.demo.prompts import TestSet
    from snce.emblem.judge import Judge
    from snce.erase.eraser import ConceptEraser
    from snce.sae.model import SAEConfig


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)


class Laboratory:
    """Loads Emblem and the judge, trains an SAE, makes erasers.

    Args:
        folder: where the SAE's checkpoint goes; a second run with the same settings starts from it.
    """

    def __init__(
        self,
        sae: SAEConfig,
        train: TrainConfig,
        prompts: int = 10_000,
        folder: Path | None = None,
        progress: bool = True,
    ) -> None:
        self.clock = Stopwatch()
        self.config, self.train_config, self.folder, self.progress = sae, train, folder, progress
        self.prompts, self.steps = prompts, STEPS
        with self.clock.stage("load"):
            self.pipe: StableDiffusionPipeline = load()
            self.judge: Judge = load_judge()
            self.tower = TextTower.from_pipeline(self.pipe)

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that draws: text encoder, denoiser, decoder."""
        parts = (self.pipe.text_encoder, self.pipe.unet, self.pipe.vae)
        return "-".join(weights_fingerprint(part) for part in parts)

    @cached_property
    def corpus(self) -> Embeddings:
        with self.clock.stage("harvest"):
            return harvest(self.tower, captions_for_training(self.prompts), progress=self.progress)

    @cached_property
    def trained(self) -> TrainResult:
        corpus = self.corpus
        with self.clock.stage("train"):
            checkpoint = self.folder / "sae-checkpoint.safetensors" if self.folder else None
            result = train_sae(corpus, self.config, self.train_config, checkpoint, self.progress)
            calibrate_thresholds(result.sae, Embeddings(corpus.x[:2000], corpus.kinds[:2000]))
            return result

    def find(self, name: str, rule: str = "modulated") -> tuple[list[NeuronCard], Embeddings, Embeddings]:
        """Ranked neurons of a bundled concept, and the prompts kept back for the threshold: (cards, target, neutral).

        Every other prompt ranks the neurons.
        """
        concept = load_concept(name)
        with self.clock.stage("find"):
            target, neutral = harvest(self.tower, concept.targets), harvest(self.tower, concept.neutrals)
            cards = find_neurons(self.trained.sae, every_other(target, 0), every_other(neutral, 0), rule)
            return cards, every_other(target, 1), every_other(neutral, 1)

    def eraser(self, name: str, strength: float, rule: str = "modulated", neurons: int = 1) -> ConceptEraser:
        """The eraser of a bundled concept."""
        cards, target, neutral = self.find(name, rule)
        with self.clock.stage("find"):
            chosen = cards[:neurons]
            return build_eraser(name, self.trained.sae, chosen, self.tower, target, neutral, strength)

    def draw(self, tests: TestSet, advance: Callable[[int], object] | None = None) -> Pictures:
        """Pictures of a test set, with whatever is attached to the pipeline."""
        with self.clock.stage("draw"):
            direct, pairs, retain = (
                draw(self.pipe, p, advance=advance) for p in (tests.direct, tests.pairs, tests.retain)
            )
        return Pictures(direct, pairs, retain)


def every_other(data: Embeddings, start: int) -> Embeddings:
    return Embeddings(data.x[start::2], data.kinds[start::2])
