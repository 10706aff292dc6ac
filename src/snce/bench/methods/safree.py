"""SAFREE: toxic tokens are projected away from the concept, in the first steps only."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from snce.bench.methods.base import Knob
from snce.bench.methods.denoise import check_pipeline, full_precision, is_guided, step_index, tokenize
from snce.bench.methods.hooks import PromptTokens, around_denoiser, recorded_prompts
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snce.bench.methods.hooks import Call
    from snce.text.prompts import Concept

MASK = 0
"""The token id that stands for a masked token in the published code ("!" in CLIP's vocabulary)."""


@dataclass(frozen=True)
class SAFREE:
    """Yoon et al., arXiv 2410.12761: the projection of tokens and the self-validating filter.

    Left out, and to be known when numbers are compared: the negative prompt that the published code sets beside it (a
    confound: it is a method of its own here), and the optional re-weighting of the UNet's features by frequency.

    P_C projects onto the span of the pooled embeddings of the concepts' names, one direction a name: that is how
    several concepts are erased at once. P_I projects onto the span of the prompt's pooled embeddings with one token
    masked each, p_i. Token i is toxic if without it the prompt is farther from the concept: |(I - P_C) p_i| exceeds
    (1 + alpha) times the mean of the others (a prompt's only token has no others and is toxic, as in the published
    code). It becomes (I - P_C) P_I e_i; end and padding stay as they are, as published.

    The edit is used for the first t' = round(limit * sigmoid(2 * slope * (10 * beta - midpoint))) steps, where
    beta = 1 - the mean cosine between e and (I - P_C) P_I e over begin, words and end. The published midpoint lies
    between the betas of CLIP; another text encoder wants another, and fewer steps of sampling another `limit`.

    The edit acts on what the denoiser reads, so the prediction type does not matter. Embeddings must come from the
    pipeline's `encode_prompt` while the erasure is attached, since their tokens must be known.
    """

    name: ClassVar[str] = "safree"
    knob: ClassVar[Knob | None] = Knob("limit", (4, 7, 10, 15, 20))

    alpha: float = 0.01
    """How much farther than the others' mean a toxic token's distance lies."""
    limit: int = 10
    """Most steps that are edited; published for schedules of 50 steps."""
    slope: float = 2.5
    """Of the self-validating filter."""
    midpoint: float = 5.333
    """10 * beta at which half of `limit` is reached."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> SAFREEErasure:
        """Nothing is fitted but the span of the names.

        Raises:
            SnceError: a pipeline of another kind.
        """
        check_pipeline(pipe)
        return SAFREEErasure(self, basis(pooled(pipe, tokenize(pipe, [c.name for c in concepts]))))


def basis(rows: Tensor) -> Tensor:
    """Orthonormal basis [r, d], float32, of the span of rows [n, d]."""
    _, values, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    tolerance = max(rows.shape) * torch.finfo(torch.float32).eps * values.max()
    return directions[values > tolerance].float()


def projected(x: Tensor, onto: Tensor) -> Tensor:
    """P x for x [..., d] and the basis [r, d] of P."""
    return (x @ onto.T) @ onto


@torch.no_grad()
def pooled(pipe: Any, tokens: Tensor) -> Tensor:
    """Pooled embeddings [n, d], float32, of token ids [n, positions]."""
    with torch.autocast(pipe.text_encoder.device.type, enabled=False):
        return pipe.text_encoder(tokens.to(pipe.text_encoder.device)).pooler_output.float()


class Safe(NamedTuple):
    """An edited prompt."""

    embedding: Tensor
    """[positions, d], float32."""
    steps: int
    """t': for how many steps it is used."""


def safe_embedding(settings: SAFREE, embedding: Tensor, masked: Tensor, concept: Tensor) -> Safe:
    """The edit of one prompt.

    Args:
        embedding: [positions, d]: begin, w words, end, padding.
        masked: pooled embeddings with one word masked each, [w, d].
        concept: basis [r, d] of the concept's span.
    """
    words, e = len(masked), embedding.float()
    with full_precision(embedding):
        distance = (masked - projected(masked, concept)).norm(dim=1)
        others = (distance.sum() - distance) / (words - 1) if words > 1 else torch.zeros_like(distance)
        toxic = torch.zeros(len(e), dtype=torch.bool, device=e.device)
        toxic[1 : words + 1] = distance > (1 + settings.alpha) * others
        inside = projected(e, basis(masked))
        moved = inside - projected(inside, concept)
        safe = torch.where(toxic[:, None], moved, e)
        read = slice(0, words + 2)  # begin, the words, end
        beta = 1 - torch.cosine_similarity(moved[read], e[read], dim=-1).mean().item()
    share = 1 / (1 + math.exp(-2 * settings.slope * (10 * beta - settings.midpoint)))
    return Safe(safe, round(settings.limit * share))


@dataclass(frozen=True)
class SAFREEErasure:
    settings: SAFREE
    concept: Tensor
    """Orthonormal basis of the names' span, [r, d]."""

    @property
    def nbytes(self) -> int:
        return self.concept.numel() * self.concept.element_size()

    @contextmanager
    def attached(self, pipe: Any) -> Iterator[None]:
        with recorded_prompts(pipe) as known, around_denoiser(pipe, _Filter(self, pipe, known).predict):
            yield

    def edit(self, pipe: Any, embedding: Tensor, tokens: Tensor) -> Safe:
        """The edit of one prompt: embedding [positions, d], token ids [positions]."""
        words = int((tokens == pipe.tokenizer.eos_token_id).nonzero()[0]) - 1
        if words == 0:
            return Safe(embedding.float(), 0)
        masked = tokens.repeat(words, 1)
        masked[torch.arange(words), torch.arange(words) + 1] = MASK
        concept = self.concept.to(embedding.device)
        return safe_embedding(self.settings, embedding, pooled(pipe, masked).to(embedding.device), concept)


class _State(threading.local):
    """The last prompts of this thread: the pipeline gives the same tensor at every step."""

    embeddings: Tensor | None = None
    safe: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class _Filter:
    erasure: SAFREEErasure
    pipe: Any
    known: PromptTokens
    state: _State = field(default_factory=_State)

    def predict(self, call: Call, sample: Tensor, t: Any, embeddings: Tensor) -> Tensor:
        first = len(sample) // 2 if is_guided(self.pipe, sample) else 0  # of the conditional rows
        if self.state.embeddings is not embeddings or self.state.safe is None:
            self.state.embeddings, self.state.safe = embeddings, self._edit(embeddings[first:])
        safe, steps = self.state.safe
        step = step_index(self.pipe.scheduler, t)
        if len(step) > 1:
            step = step[first:]
        edited = (step < steps).to(embeddings.device)
        if not edited.any():
            return call(sample, t, embeddings)
        rows = torch.where(edited[:, None, None], safe.to(embeddings), embeddings[first:])
        return call(sample, t, torch.cat([embeddings[:first], rows]))

    def _edit(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        edits = []
        for embedding in embeddings:
            tokens = self.known.of(embedding)
            if tokens is None:
                raise SnceError(
                    "SAFREE needs the tokens of a prompt: encode it by the pipeline while SAFREE is attached"
                )
            edits.append(self.erasure.edit(self.pipe, embedding, tokens))
        return torch.stack([e.embedding for e in edits]), torch.tensor([e.steps for e in edits])
