"""ItD: Interpret then Deactivate (Tian et al., arXiv 2503.09446), an SAE as eraser and as classifier of prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from snce.bench.methods.base import Knob, nbytes
from snce.bench.methods.prompts import neutral_prompts, prompts_edited
from snce.text.harvest import harvest
from snce.text.positions import BEGIN
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class InterpretThenDeactivate:
    """Features of target prompts that no retain prompt has are multiplied by `factor`, and the embedding is replaced by
    the SAE's reconstruction; but only in prompts where that changes the embedding enough.

    The authors': a prompt's features are the `top` latents by their highest activation over its positions, after TopK,
    begin-of-text left out. Features of any target prompt, less those of any retain prompt, are deactivated. The gap of
    a prompt is the mean squared difference between its embedding and the reconstruction with them deactivated. A
    prompt is edited if its gap reaches the threshold, which is 0.99 times the smallest gap of the target prompts.

    Our reading: the SAE reads the tower that the denoiser reads, not CLIP's layer 8. Latents that are not active at
    all do not fill up the top (their code lets them; with k = 64 there are enough active ones). The gap is averaged
    over all positions but begin-of-text, also where the threshold is taken (their code for celebrities takes the worst
    position there and the mean when editing). Begin-of-text keeps its embedding: our SAEs do not code it, theirs do.
    Retain prompts are the neutral prompts in which no other erased concept shows. Where no feature is left, nothing is
    edited; their code would go on to replace embeddings by reconstructions.
    """

    name: ClassVar[str] = "itd"
    knob: ClassVar[Knob | None] = Knob("factor", (-1.0, -2.0, -4.0, -8.0, -16.0))

    sae: SparseAutoencoder = field(repr=False)
    """Trained on this pipeline's text tower."""
    factor: float = -8.0
    """What the features are multiplied with: -8 for celebrities and nudity, -6 for styles."""
    top: int = 128
    """Features of a prompt, at most: 128, or 256 for styles."""
    missed: float = 0.0
    """Share of the target prompts that may stay below the threshold. 0 is the authors'; with more, one target prompt
    without any of the features does not open the gate to all prompts."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> DeactivationErasure:
        tower = TextTower.from_pipeline(pipe)
        targets = harvest(tower, list(dict.fromkeys(p for concept in concepts for p in concept.targets)))
        retain = harvest(tower, neutral_prompts(concepts))
        chosen = features(self.sae, targets, self.top) & ~features(self.sae, retain, self.top)
        erasure = DeactivationErasure(self.sae, chosen.nonzero().flatten(), self.factor, float("inf"))
        if not bool(chosen.any()):
            return erasure
        pairs = zip(targets.x.split(128), targets.kinds.split(128), strict=True)
        gaps = torch.cat([erasure.reconstruct(x, kinds)[1] for x, kinds in pairs])
        threshold = 0.99 * float(gaps.quantile(self.missed, interpolation="lower"))
        return DeactivationErasure(self.sae, erasure.features, self.factor, threshold)


@torch.no_grad()
def features(sae: SparseAutoencoder, data: Embeddings, top: int) -> Tensor:
    """Whether a latent is among the `top` of any prompt, bool [m]."""
    found = torch.zeros(sae.config.latents, dtype=torch.bool, device=sae.W_enc.device)
    for x, kinds in zip(data.x.split(128), data.kinds.split(128), strict=True):
        highest = sae.encode(x.to(sae.W_enc), kinds.to(found.device)).activations.amax(1)
        best, index = highest.topk(min(top, sae.config.latents))
        found[index[best > 0]] = True
    return found


@dataclass(frozen=True, eq=False)
class DeactivationErasure:
    """The SAE, the features to deactivate, and the gap from which a prompt is edited."""

    sae: SparseAutoencoder
    features: Tensor
    """Indices of latents, [n]."""
    factor: float
    threshold: float

    @property
    def nbytes(self) -> int:
        """Of the whole SAE: it reconstructs every edited embedding."""
        weights = {name: t for name, t in self.sae.state_dict().items() if name != "threshold"}  # of neurons, not used
        return nbytes(weights | {"features": self.features})

    def reconstruct(self, x: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction with the features deactivated, [b, positions, d], and each prompt's gap to it, [b]."""
        kinds = kinds.to(self.sae.W_enc.device)
        given = x.to(self.sae.W_enc)
        factors = torch.ones(self.sae.config.latents).index_fill(0, self.features.cpu(), self.factor).to(given)
        made = self.sae.decode(self.sae.encode(given, kinds).activations * factors)
        counted = kinds != BEGIN
        gap = ((made - given).square().mean(-1) * counted).sum(1) / counted.sum(1)
        return made, gap

    def edit(self, x: Tensor, kinds: Tensor) -> Tensor:
        """Embeddings x [b, positions, d], replaced where a prompt's gap reaches the threshold; others bit for bit."""
        if self.threshold == float("inf"):
            return x
        made, gap = self.reconstruct(x, kinds)
        edited = (gap >= self.threshold).to(x.device)[:, None] & (kinds != BEGIN)
        return torch.where(edited[..., None], made.to(x), x)

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        return prompts_edited(pipe, self.edit)
