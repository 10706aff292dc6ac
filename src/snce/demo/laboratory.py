"""Emblem with its judge, and the steps from captions to an eraser: what the demo and the benchmarks share."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from snce.emblem.concepts import load_concept
from snce.emblem.corpus import captions_for_training
from snce.emblem.load import load, load_judge
from snce.erase.build import STRENGTH, build_eraser
from snce.neurons.find import NeuronCard, find_neurons
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.thresholds import calibrate_thresholds
from snce.sae.train import TrainResult, train_sae
from snce.text.fingerprint import weights_fingerprint
from snce.text.harvest import Embeddings, harvest
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from diffusers import StableDiffusionPipeline

    from snce.emblem.judge import Judge
    from snce.erase.eraser import ConceptEraser
    from snce.sae.model import SparseAutoencoder

CAPTIONS = 10_000
"""Captions that an SAE is trained on."""
SAE = SAEConfig(width=256, latents=640, k=4)
TRAINING = TrainConfig()
"""Both chosen on validation concepts: see docs/one-neuron.md."""


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
    """Emblem, its judge, and the captions that SAEs are trained on."""

    def __init__(self, captions: int = CAPTIONS, progress: bool = True) -> None:
        self.clock = Stopwatch()
        self.captions, self.progress = captions, progress
        with self.clock.stage("load"):
            self.pipe: StableDiffusionPipeline = load()
            self.judge: Judge = load_judge()
            self.tower = TextTower.from_pipeline(self.pipe)
        self._harvested: dict[str, tuple[Embeddings, Embeddings]] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that draws: text encoder, denoiser, decoder."""
        parts = (self.pipe.text_encoder, self.pipe.unet, self.pipe.vae)
        return "-".join(weights_fingerprint(part) for part in parts)

    @cached_property
    def judge_fingerprint(self) -> str:
        return weights_fingerprint(self.judge.net)

    @cached_property
    def corpus(self) -> Embeddings:
        with self.clock.stage("harvest"):
            return harvest(self.tower, captions_for_training(self.captions), progress=self.progress)

    def train(
        self, config: SAEConfig = SAE, training: TrainConfig = TRAINING, checkpoint: Path | None = None
    ) -> TrainResult:
        """An SAE on the captions, its thresholds calibrated; goes on from `checkpoint` where there is one."""
        corpus = self.corpus
        with self.clock.stage("train"):
            result = train_sae(corpus, config, training, checkpoint, self.progress)
            calibrate_thresholds(result.sae, Embeddings(corpus.x[:2000], corpus.kinds[:2000]))
            return result

    def find(
        self, sae: SparseAutoencoder, concept: str, rule: str = "modulated"
    ) -> tuple[list[NeuronCard], Embeddings, Embeddings]:
        """Ranked neurons of a bundled concept, and the prompts kept back for the threshold: (cards, target, neutral).

        Every other prompt ranks the neurons.
        """
        with self.clock.stage("find"):
            if concept not in self._harvested:
                prompts = load_concept(concept)
                self._harvested[concept] = (
                    harvest(self.tower, prompts.targets),
                    harvest(self.tower, prompts.neutrals),
                )
            (rank_t, test_t), (rank_n, test_n) = (data.halves() for data in self._harvested[concept])
            return find_neurons(sae, rank_t, rank_n, rule), test_t, test_n

    def eraser(
        self,
        sae: SparseAutoencoder,
        concept: str,
        strength: float = STRENGTH,
        rule: str = "modulated",
        fitted: bool = True,
    ) -> ConceptEraser:
        """The eraser of one neuron of a bundled concept: see `build_eraser`."""
        cards, target, neutral = self.find(sae, concept, rule)
        with self.clock.stage("find"):
            return build_eraser(concept, sae, cards[:1], self.tower, target, neutral, strength, fitted)
