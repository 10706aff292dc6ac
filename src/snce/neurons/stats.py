"""Activation statistics of all neurons over a set of prompts, in memory that does not grow with the set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.neurons.codes import code_prompts

if TYPE_CHECKING:
    from snce.neurons.codes import PromptCodes
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings

BINS = 128
TOP = 16
"""Neurons that count as a prompt's strongest, for ItD's set difference (its 128 of 524,288, scaled to our widths)."""
_ENTRIES = 2**18
"""Active latents that are counted at once, about."""


class ActivationStats:
    """Per neuron i over prompts p, with a_i(p) its highest activation in the prompt (0 where it does not fire).

    `update(batch)` takes the activations of a batch of prompts, `add(codes)` those of coded prompts; everything else is
    read off the sums.
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
        bins = torch.where(activations > 0, self._bins(activations), 0)
        self.histogram.scatter_add_(1, bins.T, torch.ones_like(bins.T))

    def add(self, codes: PromptCodes, prompts: Tensor | None = None) -> ActivationStats:
        """Count coded prompts, and return itself.

        Args:
            prompts: indices of those to count, int64 [n], in the order in which they are summed; None for all.
        """
        chosen = torch.arange(len(codes)) if prompts is None else prompts
        longest = int(codes.starts.diff().max()) if len(codes) else 0
        for part in chosen.split(max(1, _ENTRIES // max(1, longest))):
            self._add(codes, part)
        return self

    def _add(self, codes: PromptCodes, prompts: Tensor) -> None:
        begin, count = codes.starts[prompts], codes.starts[prompts + 1] - codes.starts[prompts]
        # the place of each entry among those of its prompt, which come strongest first
        place = torch.arange(int(count.sum())) - (count.cumsum(0) - count).repeat_interleave(count)
        entry = place + begin.repeat_interleave(count)
        latents, values = codes.latents[entry].long(), codes.values[entry]
        self.prompts += len(prompts)
        n, ones = len(self.fired), torch.ones(1, dtype=torch.int64).expand(len(entry))
        self.fired.index_add_(0, latents, ones)
        self.total.index_add_(0, latents, values.double())
        self.among_top += latents[place < TOP].bincount(minlength=n)
        self.histogram.view(-1).index_add_(0, latents * BINS + self._bins(values), ones)
        self.histogram[:, 0] = self.prompts - self.fired

    def _bins(self, activations: Tensor) -> Tensor:
        """Of activations above zero: evenly spaced. Bin 0 is silence."""
        return (activations / self._largest * (BINS - 2)).long().clamp(0, BINS - 2) + 1

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


def collect(sae: SparseAutoencoder, data: Embeddings) -> ActivationStats:
    """Statistics over all prompts of `data`."""
    return ActivationStats(sae.config.latents).add(code_prompts(sae, data))


def stats_bytes(neurons: int) -> int:
    """Bytes that ranking one concept needs at most: two histograms, two of what AUROC makes of them, and the rest."""
    return 2 * neurons * 8 * (BINS + 3) + 3 * neurons * 8 * BINS + 80 * _ENTRIES
