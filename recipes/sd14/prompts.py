"""Captions and I2P's prompts, split by what they say: what is evaluated on has chosen nothing.

Half a prompt file is told from the other by a hash of the prompt itself. So the split is the same on every machine and
does not change when the file grows, and a prompt that I2P has several times, with other seeds, is on one side.
"""

from __future__ import annotations

import csv
import hashlib
from io import StringIO
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from snce.bench.suites.columns import read_fields
from snce.errors import SnceError
from snce.storage import write_text
from snce.text.prompts import Concept, read_prompts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from snce.bench.suites.columns import Fields

T = TypeVar("T")

I2P_HELD_BACK = 1 / 2
CAPTIONS_HELD_BACK = 1 / 10
FEWEST = 8
"""Prompts that a category needs in each half: `snce find` splits its own once more."""


def place(text: str) -> float:
    """Where a prompt stands in [0, 1), by its hash; case and white space do not count."""
    digest = hashlib.sha256(" ".join(text.lower().split()).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Split(NamedTuple, Generic[T]):
    """Both parts in the order of their hashes, which is none that anybody chose: the first n are a random sample."""

    training: list[T]
    evaluation: list[T]


def split_captions(source: str) -> Split[str]:
    """Different captions.

    Raises:
        SnceError: a file that cannot be read, or too few captions.
    """
    captions = sorted(set(read_prompts(source)), key=lambda text: (place(text), text))
    parts = Split(*_parted(captions, [place(text) for text in captions], CAPTIONS_HELD_BACK))
    if len(parts.training) < FEWEST or len(parts.evaluation) < 2:
        raise SnceError(
            f"{source} holds {len(captions)} different captions, of which {len(parts.evaluation)} are held back: too "
            "few to train and to evaluate on; an SAE wants thousands"
        )
    return parts


def split_i2p(source: str) -> Split[Fields]:
    """Rows of I2P with a prompt.

    Raises:
        SnceError: a file that cannot be read, without the columns, or without prompts.
    """
    rows = [row for row in read_fields("i2p", source, category="of each prompt") if row.text]
    if not rows:
        raise SnceError(f"{source} holds no prompts")
    rows.sort(key=lambda row: (place(row.text), row.text, row.seed))
    return Split(*_parted(rows, [place(row.text) for row in rows], I2P_HELD_BACK))


def _parted(items: Sequence[T], places: Sequence[float], held_back: float) -> tuple[list[T], list[T]]:
    held = [item for item, at in zip(items, places, strict=True) if at < held_back]
    return [item for item, at in zip(items, places, strict=True) if at >= held_back], held


def by_text(rows: Iterable[Fields]) -> dict[str, set[str]]:
    """The categories of each different prompt, from all of its rows."""
    found: dict[str, set[str]] = {}
    for row in rows:
        words = {word.strip().lower() for word in row.categories.split(",")}
        found.setdefault(row.text, set()).update(words - {""})
    return found


def check_categories(names: Sequence[str], prompts: Split[Fields], source: str) -> None:
    """Raise SnceError for a category that is unknown, or has too few prompts in a half."""
    halves = {"to find its neuron with": by_text(prompts.training), "to evaluate on": by_text(prompts.evaluation)}
    known = sorted(set().union(*(words for half in halves.values() for words in half.values())))
    for name in names:
        if name not in known:
            raise SnceError(f"{source} has no prompt of category {name!r}; it has {', '.join(known) or 'none'}")
        for purpose, half in halves.items():
            count = sum(name in words for words in half.values())
            if count < FEWEST:
                raise SnceError(
                    f"{source} has {count} prompts of category {name!r} {purpose}; it takes {FEWEST} at least, better "
                    "fifty"
                )


def concept_of(
    name: str, training: Sequence[Fields], captions: Sequence[str], neutrals: int, neighbours: int
) -> Concept:
    """The category as a concept, from the half that is not held back: its prompts as targets; captions, and prompts of
    other categories, as neutral ones."""
    texts = by_text(training)
    targets = [text for text, words in texts.items() if name in words]
    others = [text for text, words in texts.items() if name not in words]
    return Concept(name, tuple(targets), (*captions[:neutrals], *others[:neighbours]), harmful=name)


def write_column(path: Path, name: str, texts: Iterable[str]) -> None:
    """A CSV file of one column: a prompt may have line breaks, which a text file would take for its end."""
    _write(path, [[name], *([text] for text in texts)])


def write_i2p(path: Path, rows: Iterable[Fields]) -> None:
    """With the columns that the suite i2p reads."""
    head = ["prompt", "categories", "sd_seed", "sd_guidance_scale"]
    told = ([r.text, r.categories, r.seed, "" if r.guidance is None else r.guidance] for r in rows)
    _write(path, [head, *told])


def _write(path: Path, rows: Iterable[Sequence[object]]) -> None:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    write_text(path, buffer.getvalue())
