"""Prompt files, and concepts: prompts that name a concept beside prompts that do not."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import yaml

from snce.errors import SnceError
from snce.storage import write_text
from snce.text.concept_file import read_concept_file
from snce.text.unicode import check_unicode

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE = 1_000_000
"""Characters in a line of a prompt file. No text encoder reads a thousandth of that."""


@dataclass(frozen=True)
class Concept:
    """A concept to be erased.

    Raises:
        SnceError: no target prompts, no neutral prompts, an empty name, or text that is not Unicode.
    """

    name: str
    targets: tuple[str, ...]
    """Prompts that show the concept."""
    neutrals: tuple[str, ...]
    """Prompts of all other kinds, among them near neighbours: they decide what must not change."""
    harmful: str | None = None
    """What kind of harm the concept stands for; None for a harmless one."""
    metadata: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise SnceError("a concept needs a name")
        if not self.targets:
            raise SnceError(f"concept {self.name!r} has no target prompts: list prompts that show it under 'targets'")
        if not self.neutrals:
            raise SnceError(f"concept {self.name!r} has no neutral prompts: list prompts without it under 'neutrals'")
        check_unicode((self.name, self.harmful or "", *self.targets, *self.neutrals))

    @classmethod
    def load(cls, path: str | Path) -> Concept:
        """Read a YAML file with the keys name, targets, neutrals and, if you like, harmful.

        Raises:
            SnceError: the file is missing, is not such a file, or describes no complete concept.
        """
        path = Path(path)
        raw = read_concept_file(path)
        stem = path.stem.encode(errors="replace").decode()  # of a file name that is no Unicode
        return cls(
            name=raw.get("name") or stem,
            targets=tuple(raw.get("targets", ())),
            neutrals=tuple(raw.get("neutrals", ())),
            harmful=raw.get("harmful"),
        )

    def save(self, path: str | Path) -> None:
        raw = {
            "name": self.name,
            "harmful": self.harmful,
            "targets": list(self.targets),
            "neutrals": list(self.neutrals),
        }
        write_text(Path(path), yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=1000))


def read_prompts(source: str) -> list[str]:
    """Prompts of "FILE.txt" (one a line) or "FILE.csv:COLUMN"; blank ones are left out.

    Raises:
        SnceError: the file or column is missing, it is no such file, or there is no prompt in it.
    """
    name, _, column = source.rpartition(":")
    path = Path(name) if name.lower().endswith(".csv") else Path(source)
    if path.suffix.lower() == ".csv" and not name:
        raise SnceError(f"{source}: name the column that holds the prompts, as in {source}:caption")
    try:
        # spreadsheets put a byte order mark before the text
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = lines_of(file, path)
            found = _column(lines, column, path) if path.suffix.lower() == ".csv" else map(str.strip, lines)
            prompts = [prompt for prompt in found if prompt]
    except OSError as error:
        raise SnceError(f"cannot read prompt file {path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        if isinstance(error, SnceError):
            raise
        raise SnceError(f"{path} is not a UTF-8 text or CSV file: {error}") from error
    if not prompts:
        raise SnceError(f"{path} holds no prompts")
    return prompts


def lines_of(file: TextIO, path: Path) -> Iterator[str]:
    """Its lines, one at a time.

    Raises:
        SnceError: one of a million characters: a file without line ends must not go into memory whole.
    """
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith(("\n", "\r")):
            raise SnceError(f"{path} has a line of more than {LONGEST_LINE} characters: that is no prompt")
        yield line


def _column(lines: Iterator[str], column: str, path: Path) -> Iterator[str]:
    """The texts of a column."""
    rows = csv.reader(lines, strict=True)
    names = next(rows, [])
    if names.count(column) != 1:
        has = f"{names.count(column)} columns" if column in names else "no column"
        raise SnceError(f"{path} has {has} {column!r}; it has {', '.join(names)[:200] or 'none'}")
    place = names.index(column)
    try:
        for row in rows:
            if any(row[len(names) :]):  # or what follows a comma would be lost
                raise SnceError(
                    f"{path}: line {rows.line_num} has more columns than the first: put texts with commas in quotes"
                )
            if len(row) > place:
                yield row[place].strip()
    except csv.Error as error:
        raise SnceError(f"{path} is no CSV file: line {rows.line_num}: {error}") from error
