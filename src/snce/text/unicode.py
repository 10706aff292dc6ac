"""Text that is text: every tokenizer, terminal and file takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_unicode(texts: Iterable[str]) -> None:
    """Raise SnceError if a text holds half of a surrogate pair, as bytes do that were read in the wrong encoding."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            near = text[max(0, error.start - 30) : error.start + 30]
            raise SnceError(
                f"{near!r} is no Unicode text: it holds half of a surrogate pair; give it as UTF-8"
            ) from error
