"""Rules that say how well each neuron stands for a concept: higher is better.

Every rule takes the statistics of the target prompts T and of the neutral prompts N and returns scores [neurons].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from snce.neurons.stats import ActivationStats

    Rule = Callable[[ActivationStats, ActivationStats], Tensor]


def modulated_frequency(
    target: ActivationStats, neutral: ActivationStats, alpha: float = 1.0, beta: float = 1.0
) -> Tensor:
    """s_i = f_i(T) (1 - f_i(N))^beta (a_i(T) / (a_i(T) + a_i(N)))^alpha.

    The frequency finds what fires on the concept; the first factor takes out what fires on everything, the second what
    only whispers. After "A Single Neuron Works" (arXiv 2509.21008); the definition is ours.
    """
    a_t, a_n = target.activation, neutral.activation
    loudness = a_t / (a_t + a_n).clamp_min(1e-12)
    return target.frequency * (1 - neutral.frequency) ** beta * loudness**alpha


def raw_frequency(target: ActivationStats, neutral: ActivationStats) -> Tensor:
    """f_i(T)."""
    return target.frequency


def mean_difference(target: ActivationStats, neutral: ActivationStats) -> Tensor:
    """Mean activation on T less that on N."""
    return target.mean - neutral.mean


def saeuron(target: ActivationStats, neutral: ActivationStats) -> Tensor:
    """mu_i(T) / sum_j mu_j(T) - mu_i(N) / sum_j mu_j(N) (SAeUron, arXiv 2501.18052)."""
    return target.mean / target.mean.sum().clamp_min(1e-12) - neutral.mean / neutral.mean.sum().clamp_min(1e-12)


def set_difference(target: ActivationStats, neutral: ActivationStats) -> Tensor:
    """Share of T in which the neuron is among the strongest, if it never is on N (ItD's rule); else below zero."""
    return torch.where(neutral.among_top == 0, target.top_share, -neutral.top_share)


def auroc(target: ActivationStats, neutral: ActivationStats, neurons: Tensor | None = None) -> Tensor:
    """Probability that a target prompt activates the neuron more than a neutral one, ties counted half.

    From the histograms: exact but for activations that share a bin. Of all neurons, or of these, [n].
    """
    chosen = slice(None) if neurons is None else neurons
    t = target.histogram[chosen].double() / max(1, target.prompts)
    n = neutral.histogram[chosen].double() / max(1, neutral.prompts)
    below = n.cumsum(1) - n
    return (t * (below + 0.5 * n)).sum(1)


RULES: dict[str, Rule] = {
    "modulated": modulated_frequency,
    "frequency": raw_frequency,
    "difference": mean_difference,
    "saeuron": saeuron,
    "itd": set_difference,
    "auroc": auroc,
}
"""Every rule by its name on the command line."""
