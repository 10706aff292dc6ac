"""What a run erases: names, and the prompts that methods are fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snce.bench.lineup import BASE
from snce.bench.suites.labels import Labels, made_concept
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.text.prompts import Concept

if TYPE_CHECKING:
    from snce.bench.suites.config import SuiteConfig


def what_is_erased(
    config: SuiteConfig, labels: Labels
) -> tuple[tuple[str, ...], tuple[Concept, ...], ConceptEraser | None]:
    """Names, concepts, eraser.

    Names: of what is erased, in the suite's spelling; none for the base model alone. Concepts: to fit methods on; none
    where only an eraser is given, of a concept that the suite cannot word.

    Raises:
        SnceError: nothing is named, a name that is unknown, or one that is no class of a suite that judges by classes.
    """
    eraser = None if config.eraser is None else ConceptEraser.load(config.eraser)
    if config.methods.strip() == BASE and eraser is None and config.concepts.strip() == "default":
        return (), (), None  # the base model alone
    if config.concepts.strip() == "default":
        if eraser is None:
            raise SnceError("what is to be erased? give --concepts NAME or FILE.yaml, or --eraser FILE.safetensors")
        names = tuple(dict.fromkeys(eraser.concepts))
        known = [labels.named(name) for name in names]
        concepts = tuple(made_concept(name, labels) for name in known if name)
        concepts = concepts if len(concepts) == len(names) else ()
    else:
        wanted = [name.strip() for name in config.concepts.split(",") if name.strip()]
        if not wanted:
            raise SnceError("--concepts is empty")
        concepts = tuple(_concept(name, labels) for name in wanted)
        names = tuple(concept.name for concept in concepts)
    if labels.objects or labels.styles:
        names = tuple(_class(name, labels, config.suite) for name in names)
    return names, concepts, eraser


def _concept(name: str, labels: Labels) -> Concept:
    if Path(name).suffix.lower() in (".yaml", ".yml"):
        return Concept.load(name)
    own = labels.named(name)
    if own:
        return made_concept(own, labels)
    from snce.emblem.concepts import load_concept

    try:
        return load_concept(name)
    except SnceError as error:
        if labels.objects or labels.styles:
            raise SnceError(_no_class(name, labels)) from error
        raise


def _class(name: str, labels: Labels, suite: str) -> str:
    own = labels.named(name)
    if not own:
        raise SnceError(f"the suite {suite} cannot judge it: {_no_class(name, labels)}")
    return own


def _no_class(name: str, labels: Labels) -> str:
    classes = ", ".join((*labels.objects, *labels.styles))
    return f"{name!r} is none of its classes, {classes}"
