"""Which latents are strongest in a row: the one dense product of training, in low precision, and the search in it.

Whoever needs exactness asks for more latents than needed and computes what these activate (`snce.sae.gradients`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 128
"""Rows of the product that are held at a time: it is searched while it is in the cache."""
CHUNK = 8
SORTED = 512
"""Numbers in a row up to which it is sorted rather than searched."""

Precision = Literal["int8", "bfloat16", "float32"]


def strongest(x: Tensor, weight: Tensor, bias: Tensor, k: int, precision: Precision | None = None) -> Tensor:
    """The k latents of about the largest weight @ x + bias for each row, [n, k], in no order.

    Args:
        x, weight, bias: [n, d], [m, d] and [m], all float32 and finite.
        precision: of the product; None for the fastest that the device has instructions for.
    """
    precision = precision or fastest_precision(x.device)
    product = _in_int8(x, weight, bias) if precision == "int8" else _in_float(x, weight, bias, precision)
    rough = precision != "float32"
    return torch.cat([largest(product(start), k, rough) for start in range(0, len(x), ROWS)])


def fastest_precision(device: torch.device) -> Precision:
    """On processors without instructions for them, products of small types are far slower than those of float32."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    has = {name: getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("vnni", "avx512_bf16", "amx_tile")}
    if device.type != "cpu":
        return "float32"
    if has["vnni"] and hasattr(torch, "_int_mm"):
        return "int8"
    return "bfloat16" if has["avx512_bf16"] or has["amx_tile"] else "float32"


def _in_float(x: Tensor, weight: Tensor, bias: Tensor, precision: Precision) -> Callable[[int], Tensor]:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    x, transposed, bias = x.to(dtype), weight.to(dtype).T, bias.to(dtype)
    buffer = torch.empty(min(ROWS, len(x)), len(weight), dtype=dtype, device=x.device)

    def product(start: int) -> Tensor:
        rows = x[start : start + ROWS]
        return torch.addmm(bias, rows, transposed, out=buffer[: len(rows)])

    return product


def _in_int8(x: Tensor, weight: Tensor, bias: Tensor) -> Callable[[int], Tensor]:
    """A step for each latent, and one for each row: the loudest row must not round the others to zero."""
    row_steps = x.abs().amax(1, keepdim=True).clamp_min_(1e-30).div_(127)
    small = (x / row_steps).round_().to(torch.int8)
    rounded = torch.empty(weight.shape, dtype=torch.int8)
    steps = torch.empty(len(weight))
    for part, its, into in zip(weight.split(ROWS), steps.split(ROWS), rounded.split(ROWS), strict=True):
        torch.div(part.abs().amax(1).clamp_min_(1e-30), 127, out=its)
        into.copy_((part / its[:, None]).round_())
    transposed = rounded.T
    whole = torch.empty(min(ROWS, len(x)), len(weight), dtype=torch.int32)
    buffer = torch.empty(whole.shape)

    def product(start: int) -> Tensor:
        rows = small[start : start + ROWS]
        n = len(rows)
        # copied first: sums of whole and real numbers take twice as long
        in_steps = buffer[:n].copy_(torch._int_mm(rows, transposed, out=whole[:n])).mul_(steps)
        return torch.addcmul(bias, in_steps, row_steps[start : start + ROWS], out=in_steps)

    return product


def largest(values: Tensor, k: int, rough: bool = False) -> Tensor:
    """Places of the k largest of each row, [n, k], in no order; of equal values any. values: [n, m], finite; k <= m.

    rough: numbers that differ by less than 2^-12 of themselves count as equal, which is far less than the products of
    small types are wrong by.

    The k largest of a row lie in the k chunks with the largest maxima, so that only these need a search. The maxima are
    searched in the same way.
    """
    rows, m = values.shape
    if m < 16 * k:
        return _searched(values, k, rough)
    chunks = m // CHUNK
    # a chunk is i, i + chunks, i + 2 * chunks, ...: so maxima are taken over whole vector registers
    maxima = values[:, : CHUNK * chunks].view(rows, CHUNK, chunks).amax(1)
    offsets = torch.arange(0, CHUNK * chunks, chunks, device=values.device)
    candidates = (largest(maxima, k, rough)[:, None] + offsets[:, None]).flatten(1)
    if m > CHUNK * chunks:
        rest = torch.arange(CHUNK * chunks, m, device=values.device).expand(rows, -1)
        candidates = torch.cat([candidates, rest], 1)
    return candidates.gather(1, _searched(values.gather(1, candidates), k, rough))


def _searched(values: Tensor, k: int, rough: bool) -> Tensor:
    """As `largest`, by a look at every number."""
    m = values.shape[1]
    if not rough or values.device.type != "cpu" or m > SORTED:
        return values.topk(k, dim=1, sorted=False).indices
    # NumPy sorts short rows of 32-bit numbers in vector registers, five times as fast as PyTorch finds the largest. It
    # sorts numbers, not places: so each number's last bits are made its place.
    places = (1 << (m - 1).bit_length()) - 1
    keys = values.float().view(torch.int32).bitwise_and(~places).bitwise_or_(torch.arange(m, dtype=torch.int32))
    keys.view(torch.float32).numpy().sort(axis=1)
    return keys[:, m - k :].bitwise_and(places).long()
