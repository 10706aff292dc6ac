"""Running the commands and the Python of a page from top to bottom."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from snce.cli import _parse, main
from tests.studio import NEUTRALS, TARGETS

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCS = Path(__file__).parents[2] / "docs"
_STEP = re.compile(r"^    (snce [^\n]*)|^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)

SIZES = {"latents=2048, k=8": "latents=48, k=8", "steps=4800": "steps=4, batch=4"}
"""What a page trains with, and what serves to run it."""

SMALL = {
    "train": "--latents 48 --k 8 --batch 4 --steps 4",
    "generate": "--steps 1 --height 8 --width 8",
}
"""More options, by command."""


class Step(NamedTuple):
    """One of both."""

    command: str
    code: str


def steps(text: str) -> list[Step]:
    return [Step(*found) for found in _STEP.findall(text)]


def read(page: str, changes: Mapping[str, str]) -> list[Step]:
    """The steps of a page, with every key of `changes` replaced. All of them must be on it."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{page} has no {old!r}"
        text = text.replace(old, new)
    return steps(text)


def run(page: list[Step], names: dict[str, Any] | None = None, only_parse: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the steps; what the Python leaves behind.

    Args:
        names: what the Python finds already there.
        only_parse: commands that are checked and not run.
    """
    names = {} if names is None else names
    for command, code in page:
        if code:
            exec(compile(code, "page", "exec"), names)
            continue
        _, *arguments = shlex.split(command)
        if arguments[0] in only_parse:
            _parse(arguments)
        else:
            assert main([*arguments, *SMALL.get(arguments[0], "").split()]) == 0, command
    return names


def write_prompts(folder: Path, several: int = 4) -> None:
    """`captions.txt` and `church.yaml`, as the pages expect them. Targets all begin with a word that no other has."""
    targets, neutrals = TARGETS[:several], NEUTRALS[:several]
    (folder / "captions.txt").write_text("\n".join([*TARGETS[:several], *NEUTRALS[:several]]))
    concept = {"name": "church", "targets": targets, "neutrals": neutrals}
    (folder / "church.yaml").write_text(yaml.safe_dump(concept))
