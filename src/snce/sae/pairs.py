"""Pairs (row, latent) of a sparse code, and the products that need no others."""

from __future__ import annotations

import warnings
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

AT_ONCE = 1 << 14
"""Pairs whose vectors are gathered at a time, where there is no kernel that does without."""
LATENTS = 2048
"""Latents whose sums are held at a time."""


class Pairs(NamedTuple):
    """k latents for each of n rows, in the order of the latents, so that each latent's vector is read once.

    What the products take and give has one number per pair, in this order.
    """

    of_row: Tensor
    """The latents of each row, [n, k]; what follows is in their order."""
    row: Tensor
    """[n * k]"""
    latent: Tensor
    """[n * k], ascending."""
    ends: Tensor
    """[m + 1]: the pairs of latent i are those from ends[i] up to ends[i + 1]."""
    place: Tensor
    """[n * k]: where each pair stands in the order of the rows."""

    @classmethod
    def of(cls, latents: Tensor, m: int) -> Pairs:
        """latents: [n, k], of a dictionary of m."""
        # stable: sums are taken in the same order each time; 32 bits are sorted sooner than 64
        latent, place = latents.flatten().int().sort(stable=True)
        return cls(latents, place // latents.shape[1], latent.long(), _ends(latent, m), place)

    def strongest(self, values: Tensor, k: int) -> tuple[Pairs, Tensor]:
        """The k pairs of each row with the largest `values`, and these."""
        best, kept = self.by_row(values).topk(k, dim=1, sorted=False)
        pairs = Pairs.of(self.of_row.gather(1, kept), len(self.ends) - 1)
        return pairs, best.flatten()[pairs.place]

    def by_row(self, values: Tensor) -> Tensor:
        """[n, k]"""
        ordered = torch.empty_like(values)
        ordered[self.place] = values
        return ordered.view(self.of_row.shape)

    def dots(self, latents: Tensor, rows: Tensor) -> Tensor:
        """latents[j] . rows[i] for each pair (i, j). latents: [m, d]; rows: [n, d]."""
        if rows.device.type == "cpu":
            _FirstUse.hide_warning()
            zeros = rows.new_zeros(len(self.row))
            pattern = torch.sparse_csr_tensor(self.ends, self.row, zeros, (len(latents), len(rows)))
            return torch.sparse.sampled_addmm(pattern, latents, rows.T, beta=0).values()
        parts = zip(self.latent.split(AT_ONCE), self.row.split(AT_ONCE), strict=True)
        return torch.cat([torch.linalg.vecdot(latents[j], rows[i]) for j, i in parts])

    def to_rows(self, values: Tensor, latents: Tensor) -> Tensor:
        """Sums of values * latents[j] over the pairs of each row, [n, d]."""
        return embedding_bag(self.of_row, latents, mode="sum", per_sample_weights=self.by_row(values))

    def to_latents(self, values: Tensor, rows: Tensor, out: Tensor) -> None:
        """Sums of values * rows[i] over the pairs of each latent, into out [m, d]."""
        # In slices: the sums cannot be told to write into `out`, and fresh memory for all of them takes as long as they
        for start in range(0, len(out), LATENTS):
            ends = self.ends[start : start + LATENTS + 1]
            here = slice(int(ends[0]), int(ends[-1]))
            out[start : start + LATENTS] = embedding_bag(
                self.row[here],
                rows,
                ends - ends[0],
                mode="sum",
                per_sample_weights=values[here],
                include_last_offset=True,
            )

    def sums(self, values: Tensor) -> Tensor:
        """Sums of values over the pairs of each latent, [m]."""
        # in float64: the difference of two running sums keeps few digits
        total = torch.zeros(len(values) + 1, dtype=torch.float64, device=values.device)
        torch.cumsum(values.double(), 0, out=total[1:])
        return (total[self.ends[1:]] - total[self.ends[:-1]]).to(values.dtype)


def _ends(latent: Tensor, m: int) -> Tensor:
    ends = torch.zeros(m + 1, dtype=torch.int64, device=latent.device)
    torch.cumsum(torch.bincount(latent, minlength=m), 0, out=ends[1:])
    return ends


class _FirstUse:
    """PyTorch warns once in a process that compressed rows are in beta state: here, where nobody sees it.

    Once, and not around each use: the filters of warnings are those of the whole process, and of two threads that
    change and restore them at the same time, one restores what the other had changed.
    """

    _lock = Lock()
    _is_over = False

    @classmethod
    def hide_warning(cls) -> None:
        with cls._lock:
            if cls._is_over:
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                ends = torch.zeros(2, dtype=torch.int64)
                torch.sparse_csr_tensor(ends, ends[:0], torch.zeros(0), (1, 1))
            cls._is_over = True
