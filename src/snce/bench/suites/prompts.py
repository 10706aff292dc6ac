"""The prompts of the suites: read from a file or data set of the user's, or made here where classes suffice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from snce.bench.rows import SEPARATOR
from snce.bench.suites.columns import read_fields
from snce.bench.suites.labels import (
    IMAGENETTE,
    UNLEARNCANVAS_OBJECTS,
    UNLEARNCANVAS_SEEDS,
    UNLEARNCANVAS_STYLES,
    Labels,
    match,
    photo_of,
    styled,
)
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOMES = {"i2p": "AIML-TUDA/i2p", "coco": "sayakpaul/coco-30-val-2014"}
"""The hub data sets that are read where --prompts is left out. The other suites make their prompts."""

IMAGENETTE_SEEDS = 500


@dataclass(frozen=True)
class SuitePrompt:
    """A prompt, the seed of its picture's noise, and what its picture should show."""

    kind: str
    """direct: it names what is erased. other: it does not. i2p: it may show what is erased, without naming it."""
    concept: str
    """The erased concept that the prompt is about; "" where it is about none."""
    text: str
    seed: int
    guidance: float | None = None
    """Scale of guidance; None for the suite's."""
    object: str = ""
    """Class of the object that it asks for; "" where the suite has none."""
    style: str = ""
    categories: str = ""
    """I2P's."""


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a suite, with the classes that they are judged by."""

    prompts: tuple[SuitePrompt, ...]
    labels: Labels
    source: str
    """Where they come from, for the record."""

    def about(self, suite: str, erased: Sequence[str]) -> PromptSet:
        """The same with `kind` and `concept` filled in."""

        def told(p: SuitePrompt) -> SuitePrompt:
            if suite == "i2p":
                return replace(p, kind="i2p", concept=SEPARATOR.join(erased))
            concept = next((name for name in erased if name in (p.object, p.style)), "")
            return replace(p, kind="direct" if concept else "other", concept=concept)

        return replace(self, prompts=tuple(told(p) for p in self.prompts))


def load_prompts(
    suite: str, source: str = "", limit: int | None = None, seeds: int | None = None, category: str = ""
) -> PromptSet:
    """The prompts of a suite.

    Args:
        source: FILE.csv, a folder with a data set, or a hub data set; "" for the suite's own.
        limit: the first so many only.
        seeds: pictures of each prompt, where the suite makes its own.
        category: keep rows only whose categories have this word.

    Raises:
        SnceError: a source that cannot be read, a column that is missing, a value that is no number, or no prompts.
    """
    source = source or HOMES.get(suite, "")
    if not source:
        if category:
            raise SnceError(f"--category {category}: the prompts of {suite} have no categories")
        made, labels = _made(suite, seeds)
        return PromptSet(tuple(islice(made, limit)), labels, "made by snce")
    if seeds is not None:
        raise SnceError(f"--seeds {seeds} is for prompts that a suite makes itself; those of {source} have their own")
    found = _read(suite, source, category)
    labels = Labels()
    if suite not in HOMES:  # classes must be known as a whole, however few prompts are used
        found, labels = _labelled(suite, list(found))
    prompts = tuple(islice(found, limit))
    if not prompts:
        raise SnceError(f"{source} holds no prompts" + (f" of category {category!r}" if category else ""))
    return PromptSet(prompts, labels, source)


def _made(suite: str, seeds: int | None) -> tuple[Iterator[SuitePrompt], Labels]:
    if suite == "imagenette":
        labels = Labels(IMAGENETTE)
        numbers = range(IMAGENETTE_SEEDS if seeds is None else seeds)
        made = (SuitePrompt("", "", photo_of(o), n, object=o) for n in numbers for o in labels.objects)
        return made, labels
    if (seeds or 0) > len(UNLEARNCANVAS_SEEDS):
        raise SnceError(f"--seeds {seeds}: UnlearnCanvas has {len(UNLEARNCANVAS_SEEDS)}")
    labels, numbers = Labels(UNLEARNCANVAS_OBJECTS, UNLEARNCANVAS_STYLES), UNLEARNCANVAS_SEEDS[:seeds]
    made = (
        SuitePrompt("", "", styled(o, s), n, object=o, style=s)
        for n in numbers
        for s in labels.styles
        for o in labels.objects
    )
    return made, labels


def _read(suite: str, source: str, category: str) -> Iterator[SuitePrompt]:
    """Rows with a prompt, or with the classes that one can be made of."""
    for row in read_fields(suite, source, category):
        if (row.text or suite not in HOMES) and category.lower() in row.categories.lower():
            yield SuitePrompt("", "", row.text, row.seed, row.guidance, row.object, row.style, row.categories)


def _labelled(suite: str, prompts: list[SuitePrompt]) -> tuple[Iterator[SuitePrompt], Labels]:
    """The prompts with their classes in the suite's own spelling (other classes than its own: in the file's), and with
    the suite's wording where they have none."""
    own = Labels(IMAGENETTE) if suite == "imagenette" else Labels(UNLEARNCANVAS_OBJECTS, UNLEARNCANVAS_STYLES)
    objects = _classes([p.object for p in prompts], own.objects)
    styles = _classes([p.style for p in prompts], own.styles) if own.styles else {}

    def spelled(p: SuitePrompt) -> SuitePrompt:
        object_, style = objects[p.object], styles.get(p.style, "")
        text = p.text or (styled(object_, style) if style else photo_of(object_))
        return replace(p, text=text, object=object_, style=style)

    return map(spelled, prompts), Labels(*(tuple(dict.fromkeys(kind.values())) for kind in (objects, styles)))


def _classes(found: list[str], own: tuple[str, ...]) -> dict[str, str]:
    """The spelling of each class that was found. Where all are the suite's, the suite's others follow: those are
    classes that a picture may be mistaken for."""
    spelled = {name: match(name, own) for name in dict.fromkeys(found)}
    if all(spelled.values()):
        ours = {name: str(name_) for name, name_ in spelled.items()}
        return ours | {name: name for name in own if name not in ours.values()}
    return {name: name.replace("_", " ") for name in spelled}
