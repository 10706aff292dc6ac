"""Finding the neuron of a concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from snce.errors import SnceError
from snce.neurons.scores import RULES, auroc
from snce.neurons.stats import ActivationStats, collect

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings


CARRIES = 0.9
"""A neuron that fires in fewer of the target prompts than this carries a part of the concept only: the SAE writes the
rest with other latents, and switching off the one seldom erases it all (docs/concepts.md has figures)."""


@dataclass(frozen=True)
class NeuronCard:
    """What is known about one candidate neuron of a concept."""

    neuron: int
    score: float
    rule: str
    frequency_target: float
    """Share of the target prompts in which it fires."""
    frequency_neutral: float
    activation_target: float
    """Mean highest activation over the target prompts in which it fires."""
    activation_neutral: float
    auroc: float
    """How well its activation tells target prompts from neutral ones; 0.5 is chance."""


def rank(target: ActivationStats, neutral: ActivationStats, rule: str = "modulated", top: int = 10) -> list[NeuronCard]:
    """The `top` neurons by `rule`, best first; ties go to the lower index.

    Raises:
        SnceError: an unknown rule, or no neuron that fires on the target prompts at all.
    """
    if rule not in RULES:
        raise SnceError(f"unknown rule {rule!r}; there are {', '.join(RULES)}")
    scores = RULES[rule](target, neutral)
    if not bool((target.fired > 0).any()):
        raise SnceError("no neuron fires on the target prompts: was the SAE trained for this text encoder?")
    order = scores.argsort(descending=True, stable=True)[:top].tolist()
    f_t, f_n, a_t, a_n = target.frequency, neutral.frequency, target.activation, neutral.activation
    area = auroc(target, neutral)
    return [
        NeuronCard(
            i, float(scores[i]), rule, float(f_t[i]), float(f_n[i]), float(a_t[i]), float(a_n[i]), float(area[i])
        )
        for i in order
    ]


def find_neurons(
    sae: SparseAutoencoder, target: Embeddings, neutral: Embeddings, rule: str = "modulated", top: int = 10
) -> list[NeuronCard]:
    """Rank the SAE's neurons by how well they stand for what `target` has and `neutral` has not."""
    return rank(collect(sae, target), collect(sae, neutral), rule, top)
