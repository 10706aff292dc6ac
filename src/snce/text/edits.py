"""The switch for attached edits. Whatever measures embeddings must see them as the encoder made them."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_state = threading.local()


@contextmanager
def unedited() -> Iterator[None]:
    """Within the block, nothing that is attached to a text encoder acts in this thread."""
    _state.depth = getattr(_state, "depth", 0) + 1
    try:
        yield
    finally:
        _state.depth -= 1


def edits_are_off() -> bool:
    return getattr(_state, "depth", 0) > 0
