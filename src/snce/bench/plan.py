"""What a run of the precision suite does: which methods, on which concepts, in which cells."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from snce.bench.ablations import ABLATIONS
from snce.bench.cells import MAKERS, Cell
from snce.bench.lineup import BASE, METHODS, OURS
from snce.bench.prompts import Sizes
from snce.demo.table import validation_concepts
from snce.emblem.concepts import load_concept
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.bench.config import BenchConfig

_DEFAULT, _VALIDATION = _LISTS = ("default", "validation")
TOGETHER = (1, 5, 10, 25)
"""How many concepts a full run erases together."""


def default_concepts() -> list[str]:
    """12 harmful stand-ins, 12 other objects, and the styles.

    The objects are none of the validation concepts. Two styles are; the summary leaves them out, the heat map has them.
    """
    words, kept_back = vocabulary(), set(validation_concepts())
    rng = Random("bench concepts")
    harmful = [n for n, o in words.objects.items() if o.harmful and n not in kept_back]
    harmless = [n for n, o in words.objects.items() if not o.harmful and n not in kept_back]
    return [*rng.sample(harmful, min(12, len(harmful))), *rng.sample(harmless, 12), *words.styles]


def concept_sets(concepts: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """What is erased together: every concept alone, and of each larger size two sets of objects drawn at random.

    Raises:
        SnceError: a size that leaves no objects to judge by.
    """
    words, rng = vocabulary(), Random("bench sets")
    kept_back = set(validation_concepts())
    pool = [n for n in words.objects if n not in kept_back]
    if max(sizes) > len(pool) // 2:
        raise SnceError(
            f"--sets {max(sizes)} is too large: of Emblem's objects, {len(pool) // 2} may be erased together"
        )
    sets: list[tuple[str, ...]] = [(c,) for c in concepts] if 1 in sizes else []
    for size in sizes:
        if size > 1:
            sets += [tuple(rng.sample(pool, size)) for _ in range(2)]
    return sets


def sizes_for(count: int) -> Sizes:
    """Prompts per concept where `count` are erased together: fewer of each, about as many in all."""
    if count == 1:
        return Sizes()
    n = max(2, 24 // count)
    return Sizes(direct=n, synonym=n, sentence=n, pair=n, neighbour=2, other=48)


def look_alike_sizes(count: int) -> Sizes:
    """Prompts of a run by looks; those of one concept add up to two batches."""
    n = max(2, 24 // count)
    direct, pair, neighbour = (8, 12, 12) if count == 1 else (n, n, 2)
    return Sizes(direct, synonym=0, sentence=0, pair=pair, neighbour=neighbour, other=0)


def all_cells(config: BenchConfig, methods: Sequence[str]) -> list[Cell]:
    """Every method on every set of concepts.

    Raises:
        SnceError: an unknown concept, none at all, a style by its looks, or sizes that are no numbers, too large, or
            leave concepts out.
    """
    concepts, looks = _concepts(config.concepts), config.look_alikes
    if looks:
        concepts = _objects(concepts, strict=config.concepts.strip() not in _LISTS)
    sets, sizes = concept_sets(concepts, _set_sizes(config)), look_alike_sizes if looks else sizes_for
    return [Cell(m, None, erased, sizes(len(erased)), looks) for erased in sets for m in methods]


def _objects(concepts: Sequence[str], strict: bool) -> list[str]:
    """Without the styles, which nothing looks like; strict: there may be none."""
    styles = [name for name in concepts if name in vocabulary().styles]
    if strict and styles:
        raise SnceError(f"--look-alikes: {styles[0]!r} is a style, and no object looks like a style")
    return [name for name in concepts if name not in styles]


def _concepts(text: str) -> list[str]:
    if text.strip() == _DEFAULT:
        return default_concepts()
    if text.strip() == _VALIDATION:
        return validation_concepts()
    concepts = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not concepts:
        raise SnceError("--concepts names no concept; `snce concepts` lists them")
    for name in concepts:
        load_concept(name)
    return concepts


def _set_sizes(config: BenchConfig) -> Sequence[int]:
    all_of_it = config.concepts.strip() == _DEFAULT
    if config.sets.strip() == _DEFAULT:
        return TOGETHER if all_of_it and not config.look_alikes else (1,)
    try:
        sizes = [int(n) for n in config.sets.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise SnceError(f"--sets {config.sets!r} must be whole numbers with commas between them, such as 1,5,10")
    if 1 not in sizes and not all_of_it:
        raise SnceError(
            f"--sets {config.sets} would leave out --concepts {config.concepts}: what is erased together is drawn from "
            "Emblem's objects. Add 1 to --sets, or leave --concepts out"
        )
    return sizes


def chosen_methods(text: str) -> list[str]:
    """Names of methods; the base model is always among them.

    Raises:
        SnceError: an unknown method, or none at all.
    """
    if text.strip() == "all":
        return list(METHODS)
    if text.strip() == "ablations":
        return [BASE, OURS, *ABLATIONS]
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in MAKERS]
    if unknown or not names:
        wrong = f"unknown method {', '.join(map(repr, unknown))}" if unknown else "no method is named"
        raise SnceError(f"{wrong}; there are: {', '.join(map(repr, METHODS))}; or 'all' of these, or 'ablations'")
    return list(dict.fromkeys([BASE, *names]))
