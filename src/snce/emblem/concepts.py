"""Bundled concepts: every object that Emblem draws, and its nine styles."""

from __future__ import annotations

from difflib import get_close_matches
from random import Random
from typing import TYPE_CHECKING

from snce.emblem import captions
from snce.emblem.corpus import caption_of, surroundings
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from snce.text.prompts import Concept

if TYPE_CHECKING:
    from collections.abc import Collection

TARGETS = 160
NEUTRALS = 640


def concept_names() -> list[str]:
    """Objects, then styles."""
    return [*vocabulary().objects, *vocabulary().styles]


def load_concept(name: str, without: Collection[str] = ()) -> Concept:
    """A bundled concept: prompts with it (alone, in pairs, by its synonyms) and without it (half of them neighbours).

    Args:
        without: synonyms that no prompt has.

    Raises:
        SnceError: no object or style of that name.
    """
    words = vocabulary()
    if name in words.styles:
        return _style(name)
    if name not in words.objects:
        names = concept_names()
        near = [n for n in names if any(part in n.split() for part in name.lower().split())]
        near = near[:5] or get_close_matches(name.lower(), names)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise SnceError(f"no bundled concept {name!r}{hint} (`snce concepts` lists them)")
    item = words.objects[name]
    rng = Random(f"concept {name}")
    others = words.others(name)
    neighbours = [n for n in others if words.objects[n].group == item.group]

    def with_target() -> str:
        names = [name] if rng.random() < 0.55 else rng.sample([name, rng.choice(others)], 2)
        return caption_of(names, rng, *surroundings(rng, words), without)

    def without_target() -> str:
        if rng.random() < 0.05:
            return caption_of([], rng, *surroundings(rng, words))
        pool = neighbours if rng.random() < 0.5 else others
        return caption_of(rng.sample(pool, 1 if rng.random() < 0.55 else 2), rng, *surroundings(rng, words), without)

    return Concept(
        name,
        tuple(with_target() for _ in range(TARGETS)),
        tuple(without_target() for _ in range(NEUTRALS)),
        item.harmful,
        {"kind": "object"},
    )


def counterpart(concept: Concept, prompt: str) -> str:
    """A target prompt of a bundled concept with something else in its place: a neighbour, or no style.

    Raises:
        SnceError: no object or style of the concept's name.
    """
    words = vocabulary()
    if concept.name in words.styles:
        return captions.unstyled(prompt, concept.name)
    item = words[concept.name]
    group = [o for n in words.others(item.name) if (o := words.objects[n]).group == item.group]
    neighbours = [o.name for o in group if not any(word in prompt for word in (o.name, *o.synonyms))]
    return captions.renamed(prompt, (item.name, *item.synonyms), Random(f"instead of {prompt}").choice(neighbours))


def _style(style: str) -> Concept:
    words = vocabulary()
    rng = Random(f"concept style {style}")
    others = [s for s in words.styles if s != style]
    names = list(words.objects)

    def caption(style: str | None) -> str:
        background = rng.choice(captions.BACKGROUNDS) if rng.random() < 0.5 else None
        return caption_of(rng.sample(names, 1 if rng.random() < 0.55 else 2), rng, style, background)

    return Concept(
        style,
        tuple(caption(style) for _ in range(TARGETS)),
        tuple(caption(rng.choice([*others, None])) for _ in range(NEUTRALS)),
        None,
        {"kind": "style"},
    )
