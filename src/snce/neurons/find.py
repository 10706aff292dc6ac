"""Finding the neuron of a concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from snce.errors import SnceError
from snce.neurons.codes import code_bytes, code_prompts
from snce.neurons.scores import RULES, auroc
from snce.neurons.stats import ActivationStats, collect, stats_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from snce.neurons.codes import PromptCodes
    from snce.sae.config import SAEConfig
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings


CARRIES = 0.9
"""A neuron that fires in fewer of the target prompts than this carries a part of the concept only: the SAE writes the
rest with other latents, and switching off the one leaves it more often beside other things (the README has figures)."""


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
        SnceError: an unknown rule, a top below 1, or no neuron that fires on the target prompts at all.
    """
    _check_choice(rule, top)
    scores = RULES[rule](target, neutral)
    if not bool((target.fired > 0).any()):
        raise SnceError("no neuron fires on the target prompts: was the SAE trained for this text encoder?")
    order = scores.argsort(descending=True, stable=True)[:top]
    told = (scores, target.frequency, neutral.frequency, target.activation, neutral.activation)
    columns = [*(figure[order].tolist() for figure in told), auroc(target, neutral, order).tolist()]
    return [
        NeuronCard(neuron, score, rule, *figures)
        for neuron, score, *figures in zip(order.tolist(), *columns, strict=True)
    ]


def find_neurons(
    sae: SparseAutoencoder, target: Embeddings, neutral: Embeddings, rule: str = "modulated", top: int = 10
) -> list[NeuronCard]:
    """Rank the SAE's neurons by how well they stand for what `target` has and `neutral` has not.

    Raises:
        SnceError: an unknown rule, a top below 1, embeddings of another width than the SAE's, or no neuron that fires
            on the target prompts at all.
    """
    return rank(collect(sae, target), collect(sae, neutral), rule, top)


def find_many(
    sae: SparseAutoencoder,
    data: Embeddings,
    concepts: Mapping[str, tuple[Sequence[int], Sequence[int]]],
    rule: str = "modulated",
    top: int = 10,
    progress: bool = False,
) -> dict[str, list[NeuronCard]]:
    """Neurons of many concepts, from one pass over the prompts: for each concept what `find_neurons` says of its target
    and neutral prompts, and an empty list where that finds no neuron that fires.

    The pass takes about the time of the product with the SAE's encoder, for 200 concepts as for one, and
    `find_bytes` of memory above `data`, which may be memory-mapped (docs/speed.md has figures). Prompts that no concept
    names are not read.

    Args:
        concepts: by name, the indices in `data` of the target prompts and those of the neutral ones.
        progress: show a bar.

    Raises:
        SnceError: an unknown rule; a top below 1; embeddings of another width than the SAE's; a concept without target
            or neutral prompts, or with one that is not in `data`.
    """
    _check_choice(rule, top)
    used = torch.zeros(len(data), dtype=torch.bool)
    for name, kinds in concepts.items():
        for kind, indices in zip(("target", "neutral"), kinds, strict=True):
            used[_checked(indices, f"concept {name!r} has", f"{kind} prompts", len(data))] = True
    codes = code_prompts(sae, data, None if bool(used.all()) else used.nonzero()[:, 0], progress)
    place = used.cumsum(0) - 1  # of a prompt among those that were coded
    return {
        name: _find(codes, place[torch.as_tensor(target)], place[torch.as_tensor(neutral)], rule, top)
        for name, (target, neutral) in concepts.items()
    }


def find_bytes(config: SAEConfig, prompts: int, positions: int) -> int:
    """Bytes that `find_many` needs at most, above the embeddings and the SAE, however many concepts there are.

    The codes of so many different prompts (`code_bytes`), the statistics of one concept at a time (`stats_bytes`), and
    64 bytes a prompt. The indices in `concepts` are the caller's. It counts tensors: with what the allocator keeps and
    the buffers of the product, the process held nearly three times as much with 30,000 prompts (docs/speed.md).
    """
    return code_bytes(config, prompts, positions) + stats_bytes(config.latents) + 64 * prompts


def _checked(indices: Sequence[int], who: str, what: str, n: int) -> Tensor:
    chosen = torch.as_tensor(indices)
    if len(chosen) == 0:
        raise SnceError(f"{who} no {what}")
    if not 0 <= int(chosen.min()) <= int(chosen.max()) < n:
        raise SnceError(f"{who} {what} that are none of the {n} in the data")
    return chosen


def _find(codes: PromptCodes, target: Tensor, neutral: Tensor, rule: str, top: int) -> list[NeuronCard]:
    on_target, on_neutral = (ActivationStats(codes.neurons).add(codes, indices) for indices in (target, neutral))
    return rank(on_target, on_neutral, rule, top) if bool((on_target.fired > 0).any()) else []


def _check_choice(rule: str, top: int) -> None:
    if rule not in RULES:
        raise SnceError(f"unknown rule {rule!r}; there are {', '.join(RULES)}")
    if top < 1:
        raise SnceError(f"top is {top}: ask for one neuron at least")
