"""What stands at a token position: begin-of-text, a word, end-of-text, padding.

A denoiser of the SD 1.x kind reads all positions, padding included, and in a causal encoder the end and the padding
carry the whole prompt. Begin-of-text is the same for every prompt and is left alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BEGIN, WORD, END, PADDING = 0, 1, 2, 3
KINDS = (WORD, END, PADDING)
"""The kinds that carry content."""


def kinds_of_tokens(tokens: Tensor, tokenizer: Any) -> Tensor:
    """Kinds, uint8 [n, positions], from token ids [n, positions] of a causal, right-padded encoder."""
    kinds = torch.full(tokens.shape, WORD, dtype=torch.uint8)
    if tokenizer.bos_token_id is not None:
        kinds[:, 0] = torch.where(tokens[:, 0] == tokenizer.bos_token_id, BEGIN, WORD).to(torch.uint8)
    ended = (tokens == tokenizer.eos_token_id).cumsum(1)
    kinds[ended >= 1] = PADDING
    first = (tokens == tokenizer.eos_token_id) & (ended == 1)
    kinds[first] = END
    return kinds
