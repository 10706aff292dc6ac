"""Streaming activation statistics of all neurons over a set of prompts, in memory that does not grow with the set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings

BINS = 128
TOP = 16
"""Neurons that count as a prompt's strongest, for ItD's set difference (its 128 of 524,288, scaled to our widths)."""


class ActivationStats:
    """Per neuron i over prompts p, with a_i(p) its highest activation in the prompt (0 where it does not fire).

    `update(batch)` takes the activations of a batch of prompts; everything else is read off the sums.
    """

    def __init__(self, neurons: int, largest: float = 4.0) -> None:
        """largest: activations above it share the last histogram bin (only AUROC looks at the bins)."""
        self.prompts = 0
        self.fired = torch.zeros(neurons, dtype=torch.int64)
        self.total = torch.zeros(neurons, dtype=torch.float64)
        self.among_top = torch.zeros(neurons, dtype=torch.int64)
        self.histogram = torch.zeros(neurons, BINS, dtype=torch.int64)
        self._largest = largest

    def update(self, activations: Tensor) -> None:
        """activations: a_i(p), [prompts, neurons], zero where a neuron is silent."""
        self.prompts += len(activations)
        self.fired += (activations > 0).sum(0)
        self.total += activations.sum(0, dtype=torch.float64)
        top = activations.topk(min(TOP, activations.shape[1]), dim=1)
        self.among_top += (
            torch.zeros_like(activations, dtype=torch.int64).scatter_(1, top.indices, 1).mul(activations > 0).sum(0)
        )
        # bin 0 is silence; the others are evenly spaced
        bins = (activations / self._largest * (BINS - 2)).long().clamp(0, BINS - 2) + (activations > 0)
        self.histogram.scatter_add_(1, bins.T, torch.ones_like(bins.T))

    @property
    def frequency(self) -> Tensor:
        """f_i: share of the prompts in which neuron i fires, [neurons]."""
        return self.fired.double() / max(1, self.prompts)

    @property
    def activation(self) -> Tensor:
        """a_i: mean highest activation over the prompts in which neuron i fires, [neurons]; 0 where it never does."""
        return self.total / self.fired.clamp_min(1)

    @property
    def mean(self) -> Tensor:
        """Mean highest activation over all prompts, [neurons]."""
        return self.total / max(1, self.prompts)

    @property
    def top_share(self) -> Tensor:
        """Share of the prompts in which neuron i is among the strongest, [neurons]."""
        return self.among_top.double() / max(1, self.prompts)


@torch.no_grad()
def prompt_activations(sae: SparseAutoencoder, data: Embeddings, batch: int = 128) -> Tensor:
    """a_i(p) for all prompts at once, [prompts, neurons]."""
    return torch.cat(list(_batches(sae, data, batch)))


@torch.no_grad()
def collect(sae: SparseAutoencoder, data: Embeddings, batch: int = 128) -> ActivationStats:
    """Statistics over all prompts of `data`."""
    stats = ActivationStats(sae.config.latents)
    for activations in _batches(sae, data, batch):
        stats.update(activations)
    return stats


def _batches(sae: SparseAutoencoder, data: Embeddings, batch: int):
    for i in range(0, len(data), batch):
        x, kinds = data.x[i : i + batch].float(), data.kinds[i : i + batch]
        yield sae.encode(x, kinds).activations.amax(1)
