"""Reading captions back: which objects they name, by which of their words."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

from snce.emblem.vocabulary import vocabulary


def words_of(name: str) -> tuple[str, ...]:
    """The object's name and synonyms."""
    return (name, *vocabulary().objects[name].synonyms)


@cache
def _owners() -> tuple[dict[str, str], re.Pattern[str]]:
    owners = {word: name for name in vocabulary().objects for word in words_of(name)}
    # a hot dog is no dog: the longest word counts
    longest_first = sorted(owners, key=len, reverse=True)
    return owners, re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")


def words_named(text: str) -> list[tuple[str, str]]:
    """The words for objects in a caption, as whole words, each with its object."""
    owners, pattern = _owners()
    return [(word, owners[word]) for word in pattern.findall(text)]


def objects_named(text: str) -> set[str]:
    """The objects that a caption names."""
    return {name for _, name in words_named(text)}


def styles_named(text: str) -> set[str]:
    return {style for style in vocabulary().styles if re.search(rf"\b{re.escape(style)}\b", text)}


def printed_elsewhere(code: str, hash_seed: int) -> str:
    """What `code` prints in another process, where sets and hashes have another order."""
    program = [sys.executable, "-c", code]
    environment = {"PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout
