"""The concepts that `snce find` is given: bundled ones, files, folders of files."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.text.prompts import Concept

YAML = (".yaml", ".yml")


class Named(NamedTuple):
    """What --concept was given."""

    sources: tuple[str, ...]
    """One for each concept: a bundled concept's name, or the path of a file."""
    several: bool
    """Whether more than one was asked for, or a folder: then --out is a folder, too."""


def concepts_named(given: "Sequence[str]") -> Named:
    """Every value of --concept, with the files of a folder and the parts of a comma list each for itself.

    Raises:
        SnceError: none, a folder without concept files, or a concept that is asked for twice.
    """
    sources: list[str] = []
    folder = False
    for value in filter(str.strip, given):  # an empty path would be the folder that the command is given in
        path = Path(value)
        if path.is_dir():
            files = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in YAML)
            if not files:
                raise SnceError(f"there is no concept file (.yaml) in the folder {value}")
            sources += files
            folder = True
        elif path.is_file():  # its name may have a comma
            sources.append(value)
        else:
            sources += [part.strip() for part in value.split(",") if part.strip()]
    if not sources:
        raise SnceError("no concept to find: give --concept NAME, FILE.yaml or a folder of such files")
    twice = next((source for source in sources if sources.count(source) > 1), None)
    if twice is not None:
        raise SnceError(f"--concept {twice} is given twice")
    return Named(tuple(sources), folder or len(sources) > 1)


def concept_called(name: str) -> "Concept":
    """A concept file, where `name` is the path of one; else the bundled concept of that name.

    Raises:
        SnceError: neither, or fewer than two prompts of a kind: they are split in halves.
    """
    from snce.text.prompts import Concept

    if Path(name).suffix.lower() in YAML or Path(name).is_file():
        concept = Concept.load(name)
    else:
        from snce.emblem.concepts import load_concept

        try:
            concept = load_concept(name)
        except SnceError as error:
            raise SnceError(f"{error}, and no file of that name") from error
    for kind in ("targets", "neutrals"):
        if len(getattr(concept, kind)) < 2:
            raise SnceError(
                f"concept {concept.name!r} has one prompt among its {kind}; it takes two at least, better fifty: one "
                "half ranks the neurons, the other sets the threshold"
            )
    return concept
