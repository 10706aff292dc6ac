"""Prompts as tokens, a block at a time: the tokens of millions of prompts take more memory than need be."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from snce.text.tokens import Tokens, truncated, warn_truncated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from snce.text.towers import TextTower

_CHUNK = 4096


class TokenBlocks:
    """The tokens of `prompts` for the encoder of `tower`, a slice at a time, as if all had been tokenised together.

    Tokenises all of them once, to know `kinds` and `digest`, and keeps of that a byte per position. Warns as
    `TextTower.tokenize` does, once for all, naming the first.
    """

    kinds: Tensor
    """What stands at each position, uint8 [n, positions]: see `snce.text.positions`."""
    digest: str
    """Hash of all tokens and masks."""

    def __init__(self, tower: TextTower, prompts: Sequence[str], chunk: int = _CHUNK) -> None:
        """chunk: prompts that are tokenised at once."""
        self._tower, self._prompts, self._chunk = tower, prompts, chunk
        self._longest: list[str] = []
        """For pipelines that pad prompts to the longest of a call (Qwen-Image): the longest, to be in every call."""
        self._tokens = 0
        while not self._survey():
            pass  # again, with the longest of all in every call

    def __getitem__(self, rows: slice) -> Tokens:
        prompts = list(self._prompts[rows])
        tokens = self._tower.tokenize([*prompts, *self._longest], warn=False)
        n = len(prompts)
        return Tokens(tokens.ids[:n], None if tokens.mask is None else tokens.mask[:n])

    def _survey(self) -> bool:
        """Whether all prompts got one length. If not, the longest of them is known now."""
        ids, masks = hashlib.sha256(), hashlib.sha256()
        cut, shown, one_length = 0, [], True
        for start in range(0, len(self._prompts), self._chunk):
            rows = slice(start, start + self._chunk)
            tokens = self[rows]
            ids.update(tokens.ids.numpy().tobytes())
            if tokens.mask is None:
                found = truncated(self._prompts[rows], self._tower.tokenizer, tokens.ids.shape[1])
                cut, shown = cut + len(found), [*shown, *found][:3]
            else:
                masks.update(tokens.mask.numpy().tobytes())
                self._remember_longest(start, tokens.mask.sum(1))
            kinds = self._tower.kinds(tokens)
            if start == 0:  # filled in place: parts that are joined in the end would be in memory twice
                self.kinds = torch.empty((len(self._prompts), kinds.shape[1]), dtype=kinds.dtype)
            one_length = one_length and kinds.shape[1] == self.kinds.shape[1]
            if one_length:
                self.kinds[rows] = kinds
        if not one_length:
            return False
        warn_truncated(shown, cut, self.kinds.shape[1], stacklevel=5)
        self.digest = ids.hexdigest() + masks.hexdigest()
        return True

    def _remember_longest(self, start: int, lengths: Tensor) -> None:
        longest = int(lengths.argmax())
        if lengths[longest] > self._tokens:
            self._tokens, self._longest = int(lengths[longest]), [self._prompts[start + longest]]
