"""What an SAE says of many prompts, as sparse as it is: one pass over embeddings that may be larger than memory, after
which any number of concepts can be searched for.

A prompt has few active latents. For each prompt these are kept, each with its highest activation at any position: with
a prompt code of k = 32 that is 256 bytes a prompt, where its embedding has 118 kB (77 positions, width 768, float16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.errors import SnceError
from snce.text.positions import BEGIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snce.sae.config import SAEConfig
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings

ROWS = 640
"""Token positions that are coded at once, about: enough for the product with the encoder to run at its full speed, and
few enough for what it gives to stay in a processor's cache."""
SLICE = 1024
"""Latents whose energy is computed at once: its squares stay in the cache."""
ENTRY = 12
"""Bytes that an active latent of a prompt takes: its index and its activation, 4 bytes each, and half as much again
while the batches are joined."""


@dataclass(frozen=True, eq=False)
class PromptCodes:
    """a_i(p), the highest activation of latent i in prompt p, where it is active."""

    neurons: int
    """m: latents of the SAE."""
    starts: Tensor
    """Where the entries of each prompt begin, and at last where they end: int64 [prompts + 1]."""
    latents: Tensor
    """i, int32 [entries]; those of a prompt from the strongest to the weakest."""
    values: Tensor
    """a_i(p) > 0, float32 [entries]."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def dense(self) -> Tensor:
        """a_i(p), [prompts, m]; zero where a latent is silent."""
        full = torch.zeros(len(self), self.neurons)
        full[torch.arange(len(self)).repeat_interleave(self.starts.diff()), self.latents.long()] = self.values
        return full


@torch.no_grad()
def code_prompts(
    sae: SparseAutoencoder, data: Embeddings, prompts: Tensor | None = None, progress: bool = False
) -> PromptCodes:
    """Code prompts, a few at a time.

    A prompt's code is that of `sae.encode`, of an SAE that is not in training. It does not depend on the other prompts:
    all products have one shape, and what lacks to it is filled with zeros.

    Args:
        data: may be memory-mapped; it is read once, from front to back.
        prompts: indices of those to code, int64 [n]; None for all.
        progress: show a bar.

    Raises:
        SnceError: embeddings of another width than the SAE's.
    """
    if data.x.shape[-1] != sae.config.width:
        raise SnceError(f"the SAE has width {sae.config.width}, the embeddings have {data.x.shape[-1]}")
    coder = _Coder(sae, data.x.shape[1])
    n = len(data) if prompts is None else len(prompts)
    starts, latents, values = torch.zeros(n + 1, dtype=torch.int64), [], []
    for i in _blocks(n, coder.prompts, progress):
        at = slice(i, min(n, i + coder.prompts)) if prompts is None else prompts[i : i + coder.prompts]
        height, index = coder.code(data.x[at], data.kinds[at])
        active = height > 0
        starts[i + 1 : i + 1 + len(height)] = active.sum(1)
        latents.append(index[active].int().cpu())
        values.append(height[active].float().cpu())
    empty = torch.zeros(0)
    return PromptCodes(sae.config.latents, starts.cumsum_(0), _joined(latents, empty.int()), _joined(values, empty))


def code_bytes(config: SAEConfig, prompts: int, positions: int) -> int:
    """Bytes that `code_prompts` needs at most, above the embeddings and the SAE.

        ENTRY * prompts * active  +  8 * prompts                  the codes
        + 4 * r * (m + 2 * SLICE + 4 * width) + 48 * r * k        a block of r token positions
        + 24 * m * q                                              that are of q prompts

    with m latents; active = k of a prompt code, min(m, k * positions) of a position code; r about `ROWS`, or one
    prompt. An SAE of thresholds (jumprelu) may have up to m active, and holds a block twice.
    """
    m, k = config.latents, config.k
    rows = block_prompts(positions) * positions
    if config.activation == "jumprelu":
        return (ENTRY * m + 8) * prompts + rows * (10 * m + 16 * config.width) + 24 * m
    active = k if config.support == "prompt" else min(m, k * positions)
    block = 4 * (m + 2 * SLICE + 4 * config.width) + 48 * k
    return (ENTRY * active + 8) * prompts + rows * block + 24 * m * block_prompts(positions)


def block_prompts(positions: int) -> int:
    """Prompts in a block. It must not depend on how many there are: the shape of a product bears on its rounding."""
    return max(1, ROWS // positions)


class _Coder:
    """Codes blocks of prompts in the same memory."""

    def __init__(self, sae: SparseAutoencoder, positions: int) -> None:
        self.sae = sae
        self.prompts = block_prompts(positions)
        self.x = torch.zeros(self.prompts, positions, sae.config.width).to(sae.W_enc)
        self.kinds = torch.full((self.prompts, positions), BEGIN, dtype=torch.uint8, device=self.x.device)
        self.pre = self.x.new_empty(self.prompts * positions, sae.config.latents)

    def code(self, x: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """Heights and latents [n, active], heights falling; 0 for no latent. x: [n, positions, d], n <= prompts."""
        n, sae = len(x), self.sae
        self.x[:n], self.x[n:] = x, 0
        self.kinds[:n], self.kinds[n:] = kinds, BEGIN
        centred = (self.x - sae.b_dec) / sae.scale
        torch.mm(centred.flatten(0, 1), sae.W_enc.T, out=self.pre)
        self.pre.add_(sae.b_enc).relu_()
        self.pre.index_fill_(0, (self.kinds.flatten() == BEGIN).nonzero()[:, 0], 0)
        pre = self.pre.view(*self.kinds.shape, -1)
        if sae.config.activation == "jumprelu":
            height, index = _strongest((pre * (pre > sae.threshold)).amax(1))
        elif sae.config.support == "position":
            height, index = _strongest(self._highest_of_positions(pre))
        else:
            height, index = self._highest_of_prompts(pre)
        return height[:n], index[:n]

    def _highest_of_prompts(self, pre: Tensor) -> tuple[Tensor, Tensor]:
        energy = torch.cat([self.sae.energy(part, self.kinds)[:, 0] for part in pre.split(SLICE, dim=-1)], dim=-1)
        best, index = energy.topk(self.sae.config.k)
        height = pre.gather(2, index[:, None].expand(-1, pre.shape[1], -1)).amax(1)
        height, order = torch.where(best > 0, height, 0).sort(descending=True, stable=True)
        return height, index.gather(1, order)

    def _highest_of_positions(self, pre: Tensor) -> Tensor:
        best, index = pre.topk(self.sae.config.k)
        highest = pre.new_zeros(len(pre), pre.shape[-1])
        return highest.scatter_reduce_(1, index.flatten(1), best.flatten(1), "amax")


def _strongest(highest: Tensor) -> tuple[Tensor, Tensor]:
    """Of heights [n, m], zero for silent latents, those that are not, as far as the fullest row goes."""
    return highest.topk(max(1, int((highest > 0).sum(1).max())))


def _joined(parts: list[Tensor], empty: Tensor) -> Tensor:
    """All parts in one; they are let go of, so that codes are held twice for one of their two columns only."""
    whole = torch.cat(parts) if parts else empty
    parts.clear()
    return whole


def _blocks(n: int, size: int, progress: bool) -> Iterator[int]:
    starts = range(0, n, size)
    if not progress:
        yield from starts
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        yield from bar.track(starts, description="SAE codes")
