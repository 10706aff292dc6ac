"""Work that several machines share."""

from __future__ import annotations

import re
from typing import TypeVar

from snce.errors import SnceError

T = TypeVar("T")


def shard(items: list[T], text: str) -> list[T]:
    """Every n-th item of "i/n".

    Raises:
        SnceError: a text that is not of this form.
    """
    match_ = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text.strip())
    if not match_ or int(match_[1]) > int(match_[2]):
        raise SnceError(f"--shard {text!r} must be like 3/8: the third of eight")
    return items[int(match_[1]) - 1 :: int(match_[2])]
