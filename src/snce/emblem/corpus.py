"""Prompts drawn from Emblem's captions: to train an SAE on, and to describe, test and retain concepts."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from snce.emblem import captions
from snce.emblem.vocabulary import Vocabulary, vocabulary

if TYPE_CHECKING:
    from collections.abc import Collection

SYNONYM_SHARE = 0.25
PAIR_SHARE = 0.45
ANCHOR_SHARE = 0.05


def word_for(name: str, rng: Random, words: Vocabulary, without: Collection[str] = ()) -> str:
    """The object's name or, now and then, a synonym that is not in `without`."""
    synonyms = [word for word in words.objects[name].synonyms if word not in without]
    return rng.choice(synonyms) if synonyms and rng.random() < SYNONYM_SHARE else name


def surroundings(rng: Random, words: Vocabulary) -> tuple[str | None, str | None]:
    """A style and a background, or silence about either."""
    style = rng.choice(words.styles) if rng.random() < 0.75 else None
    background = rng.choice(captions.BACKGROUNDS) if rng.random() < 0.5 else None
    return style, background


def caption_of(
    names: list[str], rng: Random, style: str | None, background: str | None, without: Collection[str] = ()
) -> str:
    """A caption of no, one or two objects, given by any of their words but those in `without`."""
    spoken = [word_for(name, rng, vocabulary(), without) for name in names]
    if not spoken:
        return captions.anchor(rng, style, background)
    if len(spoken) == 1:
        return captions.single(spoken[0], rng, style, background)
    return captions.pair(spoken[0], spoken[1], rng, style, background)


def captions_for_training(n: int, seed: int = 0) -> list[str]:
    """n captions of all objects, alone, in pairs, and of none."""
    rng = Random(f"corpus {seed}")
    names = list(vocabulary().objects)
    texts = []
    for _ in range(n):
        dice = rng.random()
        count = 0 if dice < ANCHOR_SHARE else 2 if dice < ANCHOR_SHARE + PAIR_SHARE else 1
        texts.append(caption_of(rng.sample(names, count), rng, *surroundings(rng, vocabulary())))
    return texts
