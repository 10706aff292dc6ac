"""What stands at a token position: what is left alone, a word, the end, padding.

A denoiser of the SD 1.x kind reads all positions, padding included, and in a causal encoder the end and the padding
carry the whole prompt. What every prompt begins with (begin-of-text, a template) is the same for all and is left alone;
so is padding that the denoiser does not read.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN, WORD, END, PADDING = 0, 1, 2, 3
KINDS = (WORD, END, PADDING)
"""The kinds that carry content."""


def up_to_end(tokens: Tensor, end: int | None) -> Tensor:
    """Positions that are no padding, bool [n, positions]: those up to the first end-of-text, which may be the padding
    token, too. tokens: ids [n, positions] of a right-padded encoder; `end` None: there is no such token."""
    if end is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    ends = tokens == end
    return (ends.cumsum(1) - ends.long()) == 0


def kinds_of_tokens(prompt: Tensor, begin: int, end: int, padding_is_read: bool) -> Tensor:
    """Kinds, uint8 [n, positions].

    Args:
        prompt: positions that are no padding, bool [n, positions], wherever the padding is.
        begin: how many of these begin every prompt.
        end: how many of these end every prompt.
        padding_is_read: whether the denoiser reads the others.
    """
    place, count = prompt.cumsum(1), prompt.sum(1, keepdim=True)
    kinds = torch.full(prompt.shape, WORD, dtype=torch.uint8)
    kinds[place > count - end] = END
    kinds[place <= begin] = BEGIN
    kinds[~prompt] = PADDING if padding_is_read else BEGIN
    return kinds


def common_ends(prompts: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """The token ids that all prompts begin with, and those of the rest that all end with."""
    begin = _common(prompts)
    return begin, _common([list(reversed(prompt[len(begin) :])) for prompt in prompts])[::-1]


def _common(prompts: Sequence[Sequence[int]]) -> list[int]:
    columns = zip(*prompts, strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
