"""Prompts on which an eraser is judged; drawn apart from those that found its neuron."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from snce.emblem.corpus import caption_of, surroundings
from snce.emblem.vocabulary import vocabulary


@dataclass(frozen=True)
class TestPrompt:
    """A prompt with what its picture should show."""

    text: str
    objects: tuple[str, ...]
    style: str | None
    seed: int
    """Of the picture's initial noise."""


@dataclass(frozen=True)
class TestSet:
    """What one concept is judged on."""

    concept: str
    direct: tuple[TestPrompt, ...]
    """One object, which is (or is in) the concept."""
    pairs: tuple[TestPrompt, ...]
    """Two objects, one of them the concept. Empty for a style."""
    retain: tuple[TestPrompt, ...]
    """Without the concept; half of them near it."""


def test_set(concept: str, direct: int = 32, pairs: int = 16, retain: int = 32) -> TestSet:
    """The test prompts of a bundled concept, the same on every machine."""
    words = vocabulary()
    rng = Random(f"test {concept}")
    counter = iter(range(1_000_000))

    def prompt(objects: list[str], style: str | None, background: str | None) -> TestPrompt:
        text = caption_of(objects, rng, style, background)
        return TestPrompt(text, tuple(objects), style, seed=next(counter))

    names = list(words.objects)
    if concept in words.styles:
        drawn = [n for n in names if concept in words.objects[n].styles]
        others = [s for s in words.styles if s != concept]

        def style_prompt(style: str) -> TestPrompt:
            pool = drawn if style == concept else [n for n in names if style in words.objects[n].styles]
            return prompt([rng.choice(pool)], style, surroundings(rng, words)[1])

        return TestSet(
            concept,
            tuple(style_prompt(concept) for _ in range(direct + pairs)),
            (),
            tuple(style_prompt(rng.choice(others)) for _ in range(retain)),
        )

    item = words[concept]
    others = words.others(concept)
    near = [n for n in others if words.objects[n].group == item.group]

    def styled(objects: list[str]) -> TestPrompt:
        style, background = surroundings(rng, words)
        drawn = set(words.objects[objects[0]].styles).intersection(*(words.objects[o].styles for o in objects))
        return prompt(objects, style if style in drawn else None, background)

    def retained(i: int) -> TestPrompt:
        pool = near if i % 2 else others
        return styled(rng.sample(pool, 2 if i % 4 == 3 else 1))

    return TestSet(
        concept,
        tuple(styled([concept]) for _ in range(direct)),
        tuple(styled(rng.sample([concept, rng.choice(others)], 2)) for _ in range(pairs)),
        tuple(retained(i) for i in range(retain)),
    )
