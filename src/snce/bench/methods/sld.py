"""Safe Latent Diffusion (SLD): guidance away from the concept, where the picture goes towards it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from snce.bench.methods.base import Knob
from snce.bench.methods.denoise import check_pipeline, encode, epsilon_scale, is_guided, step_index
from snce.bench.methods.hooks import around_denoiser, around_encode_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from inspect import BoundArguments

    from snce.bench.methods.hooks import Call
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class SLD:
    """Schramowski et al., arXiv 2211.05105, eq. 3-8. With predictions u (unconditional), c (prompt), S (concept):

        mu    = min(1, |c - S| * scale), and 0 where c - S >= threshold
        gamma = mu (S - u) + momentum_scale * nu
        nu    = momentum_beta * nu + (1 - momentum_beta) * gamma
        c'    = c - gamma                                            after the warm-up

    All four are stated in epsilon. For a model that predicts v, differences of v are multiplied by alpha_t (mu
    compares them with constants, and nu adds up those of different timesteps), and gamma is divided by alpha_t again.
    The concept's prediction costs half a UNet call more. Several concepts: one safety prompt, their names joined by
    commas, as the published safety concept is a list; the tokenizer cuts off what does not fit. Without guidance, u is
    the prediction for the empty prompt.
    """

    name: ClassVar[str] = "sld"
    knob: ClassVar[Knob | None] = Knob("scale", (200.0, 1000.0, 2000.0, 5000.0, 20000.0))

    warmup: int = 10
    """Steps without guidance away from the concept; its momentum builds up in them."""
    scale: float = 1000.0
    """s_S."""
    threshold: float = 0.01
    """lambda."""
    momentum_scale: float = 0.3
    """s_m."""
    momentum_beta: float = 0.4
    """beta_m."""

    @classmethod
    def medium(cls) -> SLD:
        """Published setting "medium"; the default."""
        return cls(10, 1000.0, 0.01, 0.3, 0.4)

    @classmethod
    def strong(cls) -> SLD:
        """Published setting "strong"."""
        return cls(7, 2000.0, 0.025, 0.5, 0.7)

    @classmethod
    def max(cls) -> SLD:
        """Published setting "max"."""
        return cls(0, 5000.0, 1.0, 0.5, 0.7)

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> SLDErasure:
        """Nothing is fitted.

        Raises:
            SnceError: a pipeline of another kind.
        """
        check_pipeline(pipe)
        return SLDErasure(self, ", ".join(c.name for c in concepts))


@dataclass(frozen=True)
class SLDErasure:
    settings: SLD
    text: str

    @property
    def nbytes(self) -> int:
        return len(self.text.encode())

    @contextmanager
    def attached(self, pipe: Any) -> Iterator[None]:
        guide = _Guide(self.settings, pipe, encode(pipe, [self.text]), encode(pipe, [""]))
        with around_encode_prompt(pipe, guide.reset), around_denoiser(pipe, guide.predict):
            yield


class _State(threading.local):
    """Of the pipeline call that runs in this thread."""

    nu: Tensor | None = None
    step: int = -1


@dataclass(frozen=True)
class _Guide:
    settings: SLD
    pipe: Any
    concept: Tensor
    """Embedding [1, positions, d]."""
    null: Tensor
    state: _State = field(default_factory=_State)

    def reset(self, call: Callable[[], Any], _bound: BoundArguments) -> Any:
        self.state.nu = None  # a pipeline call begins by encoding its prompts, embedded ones, too
        return call()

    def predict(self, call: Call, sample: Tensor, t: Any, embeddings: Tensor) -> Tensor:
        prediction = call(sample, t, embeddings)
        if not is_guided(self.pipe, sample):
            n = len(sample)
            unconditional = call(sample, t, self.null.expand(n, -1, -1).to(embeddings))
            return self._away(call, sample, t, unconditional, prediction)
        n = len(sample) // 2
        half = t[:n] if isinstance(t, Tensor) and t.numel() == 2 * n else t
        unconditional, conditional = prediction.chunk(2)
        return torch.cat([unconditional, self._away(call, sample[:n], half, unconditional, conditional)])

    def _away(self, call: Call, x: Tensor, t: Any, unconditional: Tensor, conditional: Tensor) -> Tensor:
        """The prompt's prediction, guided away from the concept, [n, c, h, w]."""
        # a call of its own: in one call with the others it could change their last bits
        concept = call(x, t, self.concept.expand(len(x), -1, -1).to(x.device))
        settings, state = self.settings, self.state
        alpha = epsilon_scale(self.pipe.scheduler, t, x)
        step = step_index(self.pipe.scheduler, t).to(x.device)
        u, c, s = unconditional.float(), conditional.float(), concept.float()
        if state.nu is None or state.nu.shape != c.shape or int(step.min()) < state.step:
            state.nu = torch.zeros_like(c)
        state.step = int(step.min())
        difference = alpha * (c - s)
        mu = (difference.abs() * settings.scale).clamp(max=1).masked_fill(difference >= settings.threshold, 0)
        gamma = mu * alpha * (s - u) + settings.momentum_scale * state.nu
        state.nu = settings.momentum_beta * state.nu + (1 - settings.momentum_beta) * gamma
        guides = (step >= settings.warmup).reshape(-1, 1, 1, 1)
        # alpha_t is 0 at the first step of a schedule that ends in pure noise, where epsilon says nothing about v
        edited = c - guides * torch.where(alpha > 0, gamma / alpha.clamp_min(1e-12), 0)
        return edited.to(conditional)
