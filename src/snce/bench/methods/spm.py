"""SPM: one-dimensional adapters on the whole UNet, scaled by how near a prompt is to the concept."""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from snce.bench.methods.adapters import Adapter, Adapters, Scale, adapted, hooked
from snce.bench.methods.base import Knob, nbytes
from snce.bench.methods.denoise import check_pipeline, encode, is_guided, predict, tokenize
from snce.bench.methods.hooks import PromptTokens, around_denoiser, recorded_prompts
from snce.bench.methods.prompts import neutral_prompts
from snce.bench.methods.sampling import Sampler, drawn
from snce.bench.methods.training import minimise
from snce.checkpoint import generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snce.bench.methods.hooks import Call
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class SPM:
    """Lyu et al., arXiv 2312.16145. Each adapted layer W gets y = W x + m * up (down x), of rank one, up = 0 at first.

    Training, for the concept c and the empty prompt n, x_t sampled with guidance by the adapted model:

        |e_spm(x_t, c) - (e(x_t, n) - eta (e(x_t, c) - e(x_t, n)))|^2 + anchoring * |e_spm(x_t, a) - e(x_t, a)|^2

    The weights of the target add up to one, so it is the same for epsilon and v. Anchors a are neutral prompts that
    name no erased concept, drawn in proportion to 1 - |cosine to c| (the published code draws Gaussian embeddings
    with that rule; prompts are what the adapter will meet).

    Inference ("facilitated transport"): m is the prompt's similarity to the concept, the larger of the cosine of the
    flattened embeddings and the share of the name's tokens that the prompt has, for each prompt of a batch by itself;
    both halves of a guided call are scaled, as published, where the adapter is merged into the weights. Embeddings
    that the pipeline did not encode have no known tokens: only the cosine counts.

    Several concepts: one adapter each, trained apart, added up with their own m.
    """

    name: ClassVar[str] = "spm"
    knob: ClassVar[Knob | None] = Knob("anchoring", (0.1, 1.0, 10.0, 100.0, 1000.0))

    steps: int = 3000
    """Optimiser steps for each concept."""
    lr: float = 1e-4
    """Peak rate of AdamW; warm-up over a sixth of the steps, then a cosine to zero (published: restarted thrice)."""
    eta: float = 1.0
    """Strength of the guidance away from the concept."""
    anchoring: float = 1000.0
    """Weight of the loss on anchors."""
    anchors: int = 4
    """Anchor prompts per step."""
    guidance: float = 3.0
    """Scale of guidance with which x_t is sampled."""
    sampling_steps: int = 30
    """Length of the schedule that x_t is sampled on."""
    batch: int = 1
    """Samples per step; each anchor is tried on one of them."""
    prompts: Literal["name", "targets"] = "name"
    """c: the concept's name, as published, or its target prompts."""
    progress: bool = field(default=False, repr=False, compare=False)
    """Show a progress bar."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> SPMErasure:
        """Train one adapter for each concept.

        Raises:
            SnceError: a pipeline of another kind, no usable anchor prompt, or a loss that is not finite.
        """
        check_pipeline(pipe)
        anchors = encode(pipe, neutral_prompts(concepts)) if self.steps else None
        trained = [self._train(pipe, c, anchors, seed + i) for i, c in enumerate(concepts)]
        layers = {name: Adapter.stacked([adapters[name] for adapters, _ in trained]) for name in trained[0][0]}
        return SPMErasure(
            tuple(c.name for c in concepts), layers, tuple(loss for _, losses in trained for loss in losses)
        )

    def _train(
        self, pipe: Any, concept: Concept, anchors: Tensor | None, seed: int
    ) -> tuple[Adapters, tuple[float, ...]]:
        unet = copy.deepcopy(pipe.unet).float().requires_grad_(False)
        adapters = {name: Adapter.fresh(m, generator(seed, -1 - i)) for i, (name, m) in enumerate(adapted(unet))}
        if anchors is None:
            return adapters, ()
        targets = [encode(pipe, [concept.name] if self.prompts == "name" else concept.targets)]
        sampler, scale = Sampler(pipe, self.sampling_steps, self.guidance), Scale()
        parameters = [p.requires_grad_(True) for a in adapters.values() for p in (a.down, a.up)]

        def loss(rng: torch.Generator) -> Tensor:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * next(rates)
            c, a = drawn(targets, self.batch, rng), far_anchors(anchors, targets[0], self.anchors, rng)
            x, t = sampler.to_random_step(unet, c, rng)
            y = x[torch.arange(len(a)) % len(x)]
            with torch.no_grad():
                null = predict(pipe.unet, x, t, sampler.null).float()
                target = null - self.eta * (predict(pipe.unet, x, t, c).float() - null)
                kept = predict(pipe.unet, y, t, a).float()
            erase = F.mse_loss(predict(unet, x, t, c).float(), target)
            return erase + self.anchoring * F.mse_loss(predict(unet, y, t, a).float(), kept)

        optimizer = torch.optim.AdamW(parameters, self.lr, weight_decay=0.01)
        rates = (_rate(step, self.steps) for step in range(self.steps))
        scale.value = torch.ones(1, 1)
        with hooked(unet, adapters, scale):
            losses = minimise(
                parameters, loss, optimizer, self.steps, seed, f"{self.name} {concept.name}", self.progress
            )
        return {name: Adapter(a.down.detach(), a.up.detach()) for name, a in adapters.items()}, losses


def _rate(step: int, steps: int) -> float:
    warmup = steps / 6
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def far_anchors(anchors: Tensor, targets: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """n of `anchors` [a, positions, d], drawn in proportion to 1 - |cosine to the targets' mean|."""
    cosine = torch.cosine_similarity(anchors.flatten(1).float(), targets.flatten(1).float().mean(0, keepdim=True))
    weights = (1 - cosine.abs()).clamp_min(1e-6).cpu()
    return anchors[torch.multinomial(weights, n, replacement=True, generator=rng)]


@dataclass(frozen=True)
class SPMErasure:
    names: tuple[str, ...]
    layers: Adapters
    """Layer name to the adapters of all concepts."""
    losses: tuple[float, ...] = ()
    """Training loss of each step, one concept after the other."""

    @property
    def nbytes(self) -> int:
        tensors = {f"{name}.{part}": getattr(a, part) for name, a in self.layers.items() for part in ("down", "up")}
        return nbytes(tensors) + sum(len(name.encode()) for name in self.names)

    @contextmanager
    def attached(self, pipe: Any) -> Iterator[None]:
        scale = Scale()
        with recorded_prompts(pipe) as known:
            transport = Transport(pipe, known, encode(pipe, self.names), tokenize(pipe, self.names), scale)
            with hooked(pipe.unet, self.layers, scale), around_denoiser(pipe, transport.predict):
                yield


@dataclass(frozen=True)
class Transport:
    """Facilitated transport: how much of each adapter a prompt gets."""

    pipe: Any
    known: PromptTokens
    concepts: Tensor
    """Embeddings of the names, [K, positions, d]."""
    tokens: Tensor
    """Their token ids, [K, positions]."""
    scale: Scale = field(default_factory=Scale)

    def similarity(self, embeddings: Tensor) -> Tensor:
        """m, [n, K], in 0...1, of embeddings [n, positions, d]."""
        a, b = embeddings.flatten(1).float(), self.concepts.flatten(1).float().to(embeddings.device)
        cosine = torch.cosine_similarity(a[:, None], b[None], dim=-1)
        special = set(self.pipe.tokenizer.all_special_ids)
        names = [set(ids) - special for ids in self.tokens.tolist()]
        shared = torch.zeros_like(cosine)
        for i, embedding in enumerate(embeddings):
            ids = self.known.of(embedding)
            words = set() if ids is None else set(ids.tolist())
            shared[i] = torch.tensor([len(words & name) / max(1, len(name)) for name in names])
        return torch.maximum(cosine, shared)  # shared is never negative

    def predict(self, call: Call, sample: Tensor, t: Any, embeddings: Tensor) -> Tensor:
        guided = is_guided(self.pipe, sample)
        scale = self.similarity(embeddings.chunk(2)[1] if guided else embeddings)
        self.scale.value = None if not scale.any() else torch.cat([scale, scale]) if guided else scale
        try:
            return call(sample, t, embeddings)
        finally:
            self.scale.value = None
