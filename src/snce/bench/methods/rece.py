"""RECE: Reliable and Efficient Concept Erasure (Gong et al., arXiv 2407.12383), UCE against its own adversary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from snce.bench.methods.base import Knob
from snce.bench.methods.uce import (
    UCE,
    EditedWeights,
    Tokens,
    closed_form,
    cross_attention,
    erased_and_guide,
)
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.text.prompts import Concept


@dataclass(frozen=True)
class RECE:
    """UCE; then, epoch by epoch, the embeddings that would bring the concepts back are found and erased as well.

    As in the authors' code, an epoch edits the weights that the one before left (they stand for W0 in UCE's formula),
    and its guide is seen through them. Where we differ: the authors erase the adversarial embedding at every position,
    the begin and earlier words included; here at the positions of `tokens`, which the guide is aligned to as in `UCE`.
    They preserve the empty prompt only (for artists, other artists); here it is UCE's preserve set, at their weight.
    """

    name: ClassVar[str] = "rece"
    knob: ClassVar[Knob | None] = Knob("epochs", (1.0, 2.0, 3.0, 5.0, 10.0))

    uce: UCE = field(default_factory=UCE)
    """The editing that comes first, with guide and preserve set for all epochs."""
    epochs: int = 3
    """Rounds after UCE. The authors run up to ten and keep the best by a validation set: 1 to 3."""
    closeness: float = 0.1
    """Weight that keeps the adversarial embedding small: 0.1 for nudity, 0.001 for objects."""
    tokens: Tokens = "all"
    """Positions of the concept's prompt whose adversaries are erased: see `UCE`."""
    erase_weight: float = 1.0
    """e of an epoch."""
    preserve_weight: float = 0.1
    """p of an epoch."""
    regularisation: float = 0.1
    """l of an epoch."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> EditedWeights:
        tower = TextTower.from_pipeline(pipe)
        before = cross_attention(pipe.unet)
        now = self.uce.prepare(pipe, concepts, seed).weights
        c, guide = erased_and_guide(tower, [concept.name for concept in concepts], self.uce.guide, self.tokens)
        kept = self.uce.preserved(tower, concepts, self.tokens, seed)
        for _ in range(int(self.epochs)):  # a grid of values gives floats
            adversary = c @ adversarial_map(before, now, self.closeness).T
            now = closed_form(now, adversary, guide, kept, self.erase_weight, self.preserve_weight, self.regularisation)
        return EditedWeights.like(now, before)


def adversarial_map(before: dict[str, Tensor], now: dict[str, Tensor], closeness: float) -> Tensor:
    """M [d, d] in float64: c' = M c is what the edited weights turn into most nearly what the old ones made of c.

    Minimises sum |W c' - W0 c|^2 + closeness |c'|^2 over all weights W, whose old values are W0:
    M = (closeness I + sum W^T W)^-1 sum W^T W0.
    """
    d = next(iter(before.values())).shape[1]
    gram, cross = closeness * torch.eye(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    for name, old in before.items():
        new = now[name].double().cpu()
        gram += new.T @ new
        cross += new.T @ old.double().cpu()
    return torch.linalg.solve(gram, cross)
