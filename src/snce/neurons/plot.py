"""A picture of how a concept's neurons were chosen, and of where the chosen ones fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from snce.storage import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import Tensor

    from snce.neurons.find import NeuronCard

ACCENT = "#c0392b"
QUIET = "#4a7fb5"
OTHERS = "#c3c9d0"
BINS = 40


@dataclass(frozen=True, eq=False)
class ChosenNeuron:
    """A neuron that is switched off, with its activations on prompts that did not choose it."""

    neuron: int
    threshold: float
    target: Tensor
    """Highest activation in each prompt with the concept, [prompts]."""
    neutral: Tensor
    """The same for prompts without it."""


def plot_neurons(concept: str, cards: Sequence[NeuronCard], chosen: Sequence[ChosenNeuron], path: Path) -> None:
    """Write a PNG: the scores of `cards`, best first, and a histogram of each chosen neuron's activations.

    Raises:
        SnceError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: it would keep state and want a display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 + 4.4 * len(chosen), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(chosen), squeeze=False)[0]
    _scores(axes[0], cards, {c.neuron for c in chosen})
    for axis, neuron in zip(axes[1:], chosen, strict=True):
        _histogram(axis, neuron)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(concept.replace("$", r"\$"))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _scores(axis: Axes, cards: Sequence[NeuronCard], chosen: set[int]) -> None:
    colours = [ACCENT if card.neuron in chosen else OTHERS for card in cards]
    axis.bar(range(len(cards)), [card.score for card in cards], color=colours)
    axis.set_xticks(range(len(cards)), [str(card.neuron) for card in cards], rotation=90, fontsize=8)
    axis.set(xlabel="neuron", ylabel=f"score ({cards[0].rule})", title="scores, best first")


def _histogram(axis: Axes, chosen: ChosenNeuron) -> None:
    # both kinds of prompts in the same bins, as shares: there are usually more neutral prompts
    everything = torch.cat([chosen.target, chosen.neutral]).clamp_min(0)
    largest = max(float(everything.max()), chosen.threshold, 1e-6) * 1.02
    edges = torch.linspace(0, largest, BINS + 1).tolist()
    for values, colour, label in ((chosen.neutral, QUIET, "neutral"), (chosen.target, ACCENT, "target")):
        values = values.clamp_min(0)
        weights = [1 / len(values)] * len(values)
        axis.hist(values.tolist(), edges, weights=weights, color=colour, alpha=0.6, label=f"{label} ({len(values)})")
    axis.axvline(chosen.threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axis.set(xlabel="highest activation in the prompt", ylabel="share of the prompts", title=f"neuron {chosen.neuron}")
    axis.legend(frameon=False, fontsize=8)
