"""The one exception that means: the user's input is wrong, and the message says how to put it right."""

from __future__ import annotations


class SnceError(ValueError):
    """Bad input. The command line prints its message in one line and exits with code 2."""


def first_line(error: BaseException) -> str:
    """Of another library's message, 200 characters at most, or its kind where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
