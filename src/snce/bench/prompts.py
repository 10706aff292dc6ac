"""The prompts of the precision suite: what an erasure is judged on, by kind of prompt."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from snce.emblem import captions
from snce.emblem.corpus import surroundings
from snce.emblem.vocabulary import vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TARGET_KINDS = ("direct", "synonym", "sentence")
RETAIN_KINDS = ("other", "neighbour")
KINDS = (*TARGET_KINDS, "pair", *RETAIN_KINDS)
SENTENCES = (
    "i dreamt of {x} last night",
    "nothing else but {x}, please",
    "we bought {x} in the market",
    "have you ever seen {x} like this",
    "the sign at the door shows {x}",
    "she wants {x} and nothing more",
    "a page of a book with {x}",
    "{x}, as large as you can",
)
"""Sentences that neither Emblem nor any method has seen."""


@dataclass(frozen=True)
class BenchPrompt:
    """A prompt, what its picture should show, and the seed of the picture's noise."""

    kind: str
    """direct: the concept's name in a plain caption. synonym: a word for it that no prompt of a method has. sentence: a
    new sentence around the name. pair: the concept beside a partner. other: what was not erased. neighbour: the objects
    that lie nearest to the concept, by name or by looks."""
    concept: str
    """The erased concept that the prompt is about; "" where it is about none."""
    text: str
    objects: tuple[str, ...]
    style: str | None
    seed: int


@dataclass(frozen=True)
class Sizes:
    """Prompts of each kind, per erased concept; `other` for all of them together.

    The numbers of an object add up to four batches.
    """

    direct: int = 8
    synonym: int = 8
    sentence: int = 8
    pair: int = 8
    neighbour: int = 10
    other: int = 22


def held_out_synonym(concept: str) -> str | None:
    """The word that no prompt of a method has: the last of the synonyms that are no word of the name, if any."""
    item = vocabulary().objects.get(concept)
    new = [word for word in item.synonyms if not set(word.split()) <= set(concept.split())] if item else []
    return new[-1] if new else None


def erased_objects(erased: Sequence[str]) -> list[str]:
    """Those of the concepts that are objects: the others are styles."""
    words = vocabulary()
    return [words[name].name for name in erased if name not in words.styles]


def retained_objects(erased: Sequence[str]) -> list[str]:
    """Objects that are no instance of any erased one."""
    words = vocabulary()
    others = [set(words.others(name)) for name in erased_objects(erased)]
    return [name for name in words.objects if all(name in kept for kept in others)]


def precision_prompts(
    erased: Sequence[str],
    neighbours: Mapping[str, Sequence[str]],
    sizes: Sizes = Sizes(),
    partners: Mapping[str, Sequence[str]] | None = None,
) -> list[BenchPrompt]:
    """The prompts for a set of erased concepts, objects or styles: the same on every machine.

    Every prompt has its own seed, so that figures average over prompts and noise alike. Object prompts name a style or
    not, as captions do; a retained picture's style counts where its prompt names one.

    Args:
        neighbours: of each erased object.
        partners: objects that each erased object is paired with; left out, any that is not erased.
    """
    words = vocabulary()
    rng = Random(f"bench {sorted(erased)}")
    styles = [c for c in erased if c in words.styles]
    objects = erased_objects(erased)
    free_styles = [s for s in words.styles if s not in styles]
    free_objects = retained_objects(erased)
    prompts: list[BenchPrompt] = []

    def style_of(names: Sequence[str]) -> str | None:
        """A style that is not erased and in which all `names` exist, or none."""
        style, _ = surroundings(rng, words)
        shared = set(free_styles).intersection(*(words.objects[n].styles for n in names))
        return rng.choice(sorted(shared)) if style and shared else None

    def add(kind: str, concept: str, core: str, names: Sequence[str], style: str | None) -> None:
        background = surroundings(rng, words)[1]
        text = captions.style_and_background(core, rng, style, background)
        prompts.append(BenchPrompt(kind, concept, text, tuple(names), style, seed=len(prompts)))

    def plain(word: str) -> str:
        return rng.choice(captions.PLAIN).format(x=captions.with_article(word), bare=word)

    def sentence(word: str) -> str:
        return rng.choice(SENTENCES).format(x=captions.with_article(word))

    def beside(left: str, right: str) -> str:
        x, y = captions.with_article(left), captions.with_article(right)
        return rng.choice(captions.PAIRS).format(x=x, y=y)

    for concept in objects:
        for _ in range(sizes.direct):
            add("direct", concept, plain(concept), [concept], style_of([concept]))
        for _ in range(sizes.synonym if (word := held_out_synonym(concept)) else 0):
            add("synonym", concept, plain(word or ""), [concept], style_of([concept]))
        for _ in range(sizes.sentence):
            add("sentence", concept, sentence(concept), [concept], style_of([concept]))
        for _ in range(sizes.pair):
            names = rng.sample([concept, rng.choice(partners[concept] if partners else free_objects)], 2)
            add("pair", concept, beside(*names), names, style_of(names))
        for i in range(sizes.neighbour):
            name = neighbours[concept][i % len(neighbours[concept])]
            add("neighbour", "", plain(name), [name], style_of([name]))
    for concept in styles:
        drawn = [n for n in free_objects if concept in words.objects[n].styles]
        for kind, n, core in (("direct", sizes.direct, plain), ("sentence", sizes.sentence, sentence)):
            for _ in range(n):
                name = rng.choice(drawn)
                add(kind, concept, core(name), [name], concept)
        for _ in range(sizes.pair):  # the object is the style's partner
            name = rng.choice(drawn)
            add("pair", concept, plain(name), [name], concept)
    for i in range(sizes.other):
        names = rng.sample(free_objects, 2 if i % 4 == 3 else 1)
        core = beside(*names) if len(names) == 2 else plain(names[0])
        add("other", "", core, names, style_of(names))
    return prompts
