"""Prompt files, and concepts: prompts that name a concept beside prompts that do not."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from snce.errors import SnceError
from snce.storage import write_text


@dataclass(frozen=True)
class Concept:
    """A concept to be erased.

    Raises:
        SnceError: no target prompts, no neutral prompts, or an empty name.
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

    @classmethod
    def load(cls, path: str | Path) -> Concept:
        """Read a YAML file with the keys name, targets, neutrals and, if you like, harmful.

        Raises:
            SnceError: the file is missing, is not such a file, or describes no complete concept.
        """
        path = Path(path)
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SnceError(f"cannot read concept file {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise SnceError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from error
        if not isinstance(raw, dict):
            raise SnceError(f"{path} must hold a mapping with the keys name, targets and neutrals")
        unknown = set(map(str, raw)) - {"name", "targets", "neutrals", "harmful"}
        if unknown:
            raise SnceError(f"{path} has unknown keys: {', '.join(sorted(unknown))}")
        harmful = raw.get("harmful")
        return cls(
            name=str(raw.get("name") or path.stem),
            targets=_prompt_list(raw, "targets", path),
            neutrals=_prompt_list(raw, "neutrals", path),
            harmful=None if harmful is None else str(harmful),
        )

    def save(self, path: str | Path) -> None:
        raw = {
            "name": self.name,
            "harmful": self.harmful,
            "targets": list(self.targets),
            "neutrals": list(self.neutrals),
        }
        write_text(Path(path), yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=1000))


def _prompt_list(raw: dict, key: str, path: Path) -> tuple[str, ...]:
    value = raw.get(key) or []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise SnceError(f"{path}: {key!r} must be a list of prompts")
    return tuple(v.strip() for v in value if v.strip())


def read_prompts(source: str) -> list[str]:
    """Prompts of "FILE.txt" (one a line) or "FILE.csv:COLUMN"; blank ones are left out.

    Raises:
        SnceError: the file or column is missing, or there is no prompt in it.
    """
    name, _, column = source.rpartition(":")
    path = Path(name) if name.lower().endswith(".csv") else Path(source)
    if path.suffix.lower() == ".csv" and not name:
        raise SnceError(f"{source}: name the column that holds the prompts, as in {source}:caption")
    try:
        # spreadsheets put a byte order mark before the text
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                rows = csv.DictReader(file)
                if column not in (rows.fieldnames or []):
                    raise SnceError(
                        f"{path} has no column {column!r}; it has {', '.join(rows.fieldnames or []) or 'none'}"
                    )
                prompts = [(row[column] or "").strip() for row in rows]
            else:
                prompts = [line.strip() for line in file]
    except OSError as error:
        raise SnceError(f"cannot read prompt file {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SnceError(f"{path} is not a UTF-8 text or CSV file: {error}") from error
    prompts = [p for p in prompts if p]
    if not prompts:
        raise SnceError(f"{path} holds no prompts")
    return prompts
