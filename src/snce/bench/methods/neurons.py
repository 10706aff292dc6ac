"""SNCE: one neuron per concept switched off (after arXiv 2509.21008), this library's own method."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from snce.bench.methods.base import Knob
from snce.bench.methods.prompts import prompts_edited
from snce.erase.build import STRENGTH, build_eraser
from snce.erase.compose import compose
from snce.errors import SnceError
from snce.neurons.find import find_neurons
from snce.text.harvest import harvest
from snce.text.positions import KINDS
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from snce.erase.eraser import ConceptEraser
    from snce.sae.model import SparseAutoencoder
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class SNCE:
    """The best neurons of each concept are found, switched off, and joined with those of the other concepts.

    Every other prompt of a concept ranks the neurons; the rest set threshold, level and direction.
    """

    name: ClassVar[str] = "snce"
    knob: ClassVar[Knob | None] = Knob("strength", (0.5, 0.75, 1.0, 1.25, 1.5, 2.0))

    sae: SparseAutoencoder = field(repr=False)
    """Trained on this pipeline's text tower."""
    n: int = 1
    """Neurons per concept."""
    strength: float = STRENGTH
    """Of every neuron."""
    fitted: bool = True
    levelled: bool = True
    """See `snce.erase.build.build_eraser`."""
    rule: str = "modulated"
    """By what neurons are ranked: see `snce.neurons.scores.RULES`."""
    positions: tuple[int, ...] = KINDS
    """Kinds of position that are edited (`snce.text.positions`); the neurons are chosen by all of them."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> NeuronErasure:
        tower = TextTower.from_pipeline(pipe)
        return NeuronErasure(compose([self._eraser(tower, concept) for concept in concepts]), self.positions)

    def _eraser(self, tower: TextTower, concept: Concept) -> ConceptEraser:
        if min(len(concept.targets), len(concept.neutrals)) < 2:
            raise SnceError(
                f"concept {concept.name!r} has {len(concept.targets)} target and {len(concept.neutrals)} neutral "
                "prompts; it takes two of each at least: one half ranks the neurons, the other sets the threshold"
            )
        rank_t, test_t = harvest(tower, concept.targets).halves()
        rank_n, test_n = harvest(tower, concept.neutrals).halves()
        cards = find_neurons(self.sae, rank_t, rank_n, self.rule, self.n)
        return build_eraser(
            concept.name, self.sae, cards, tower, test_t, test_n, self.strength, self.fitted, self.levelled
        )


@dataclass(frozen=True)
class PaperSNCE(SNCE):
    """As the paper has it: an SAE of a position code (`SAEConfig.plain`), and the neuron's decoder row."""

    name: ClassVar[str] = "snce as in the paper"
    knob: ClassVar[Knob | None] = Knob("strength", (1.0, 2.0, 3.0, 4.0, 6.0, 8.0))

    strength: float = 1.0
    fitted: bool = False
    levelled: bool = False


@dataclass(frozen=True, eq=False)
class NeuronErasure:
    """An eraser, to be attached to pipelines."""

    eraser: ConceptEraser
    positions: tuple[int, ...] = KINDS

    @property
    def nbytes(self) -> int:
        return self.eraser.nbytes

    @contextmanager
    def attached(self, pipe: Any) -> Iterator[None]:
        """Raises SnceError on a pipeline with another text encoder."""
        with self.eraser.attach(pipe) if self.positions == KINDS else prompts_edited(pipe, self._edit):
            yield

    def _edit(self, x: Tensor, kinds: Tensor) -> Tensor:
        here = torch.isin(kinds, torch.tensor(self.positions, device=kinds.device))
        return torch.where(here[..., None], self.eraser.edit(x), x)
