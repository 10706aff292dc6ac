"""Concept Steerers (Kim and Ghadiyaram, arXiv 2501.19066): the concept's own SAE activations, subtracted everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from snce.bench.methods.base import Knob, nbytes
from snce.bench.methods.prompts import prompts_edited
from snce.text.harvest import harvest
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from snce.sae.model import SparseAutoencoder
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class ConceptSteerers:
    """x' = x + lambda * decode(ReLU(pre(x_c))), position by position, with x_c the embedding of the concept's prompt.

    All latents that the concept's prompt activates take part, not the top k only; the decoder's bias does not. The
    edit is the same for every prompt.

    The authors' prompt is a list of keywords ("violence, blood"); here it is the names of the concepts, joined by
    commas; the tokenizer cuts off what does not fit. Their SAE reads layer 9 of CLIP; here it reads the tower that the
    denoiser reads, as all SAEs of this benchmark, and leaves begin-of-text alone. Their script also adds the opposite
    to the negative prompt's embedding, a second guidance against the concept; it is left out, since no other method has
    it.
    """

    name: ClassVar[str] = "steerers"
    knob: ClassVar[Knob | None] = Knob("strength", (-0.3, -0.5, -0.7, -1.0, -1.5, -2.0))

    sae: SparseAutoencoder = field(repr=False)
    """Trained on this pipeline's text tower."""
    strength: float = -0.5
    """lambda: -0.5 for nudity, -0.7 for violence."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> SteeringErasure:
        data = harvest(TextTower.from_pipeline(pipe), [", ".join(concept.name for concept in concepts)])
        return SteeringErasure(self.strength * steering(self.sae, data.x, data.kinds)[0])


@torch.no_grad()
def steering(sae: SparseAutoencoder, x: Tensor, kinds: Tensor) -> Tensor:
    """decode(ReLU(pre(x))) without the decoder's bias, [n, positions, d]; zero at begin-of-text."""
    return sae.decode(sae.pre(x.to(sae.W_enc), kinds.to(sae.W_enc.device))) - sae.b_dec


@dataclass(frozen=True, eq=False)
class SteeringErasure:
    """What is added to every prompt's embedding."""

    change: Tensor
    """[positions, d], float32."""

    @property
    def nbytes(self) -> int:
        return nbytes({"change": self.change})

    def edit(self, x: Tensor, kinds: Tensor) -> Tensor:
        """x + change, [b, positions, d]."""
        return (x.float() + self.change[: x.shape[1]].to(x.device)).to(x.dtype)

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        return prompts_edited(pipe, self.edit)
