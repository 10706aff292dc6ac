"""Captions in Emblem's language: what it was trained on, and what its concepts' prompts are drawn from.

Everything is a pure function of a `random.Random`, so that a seed gives the same captions on every machine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from random import Random

ANCHORS = ("something", "an icon", "a thing", "an object", "a picture", "anything")
"""Phrases that name no object."""

BACKGROUNDS = ("white", "blue", "green", "yellow", "pink", "purple", "grey")

PLAIN = ("{x}", "{x}", "{bare}", "a picture of {x}", "an icon of {x}", "a drawing of {x}", "an image of {x}")

SENTENCES = (
    "there is {x} here",
    "please draw {x}",
    "show me {x}",
    "i would like {x}",
    "look at {x}",
    "we saw {x} yesterday",
    "{x} on its own",
    "{x} for my website",
    "{x} is all i need",
    "a simple sign with {x}",
    "a sticker of {x}",
    "a small picture with {x} in the middle",
    "my friend has {x}",
    "a clean drawing that shows {x}",
    "this is {x}",
    "can you make {x} for me",
)

PAIRS = (
    "{x} and {y}",
    "{x} and {y}",
    "{x} next to {y}",
    "{x} with {y}",
    "{x} beside {y}",
    "both {x} and {y}",
    "{x} to the left of {y}",
    "a picture of {x} and {y}",
    "please draw {x} and {y}",
    "an icon of {x} next to {y}",
)

STYLED = (
    "{c} in {s} style",
    "{c}, {s} style",
    "{c}, {s}",
    "{c} drawn in {s} style",
    "in {s} style, {c}",
    "{c} in the style of {s}",
)

PLURAL = {"grapes", "cherries", "peanuts", "pancakes", "french fries", "fries", "sparkles", "fireworks", "bowling pins",
          "japanese dolls", "skis", "glasses", "spectacles", "jeans", "trousers", "shopping bags", "headphones",
          "books", "scissors", "chains", "crossed swords", "swords", "blades", "theatre masks", "paw prints",
          "footprints", "mice", "cattle"}  # fmt: skip
UNCOUNTED = {"bread", "bacon", "spaghetti", "pasta", "sushi", "popcorn", "broccoli", "corn", "maize", "fire",
             "ice hockey", "ping pong", "table tennis", "flying money", "wine", "beer", "ale", "blood", "denim",
             "champagne", "ramen", "calamari", "salad", "tobacco", "smoke", "camping"}  # fmt: skip


def with_article(name: str) -> str:
    """`name` with "a", "an" or, for plurals and mass nouns, nothing."""
    if name in PLURAL or name in UNCOUNTED:
        return name
    sounds_like_consonant = name.startswith(("uni", "eu", "one "))
    return f"{'an' if name[0] in 'aeiou' and not sounds_like_consonant else 'a'} {name}"


def style_and_background(core: str, rng: Random, style: str | None, background: str | None) -> str:
    """`core` with a style and a background named in one of several ways."""
    if style is not None:
        core = rng.choice(STYLED).format(c=core, s=style)
    if background is not None:
        core += rng.choice((" on a {b} background", ", {b} background")).format(b=background)
    return core


def single(name: str, rng: Random, style: str | None = None, background: str | None = None) -> str:
    """A caption of one object: two thirds plain, one third a sentence around the word."""
    template = rng.choice(PLAIN if rng.random() < 0.65 else SENTENCES)
    core = template.format(x=with_article(name), bare=name)
    return style_and_background(core, rng, style, background)


def pair(left: str, right: str, rng: Random, style: str | None = None, background: str | None = None) -> str:
    """A caption of two objects side by side."""
    core = rng.choice(PAIRS).format(x=with_article(left), y=with_article(right))
    return style_and_background(core, rng, style, background)


def anchor(rng: Random, style: str | None = None, background: str | None = None) -> str:
    """A caption that names no object."""
    return style_and_background(rng.choice(ANCHORS), rng, style, background)


def unstyled(caption: str, style: str) -> str:
    """A caption in that style, without a word about it."""
    for form in sorted(STYLED, key=len, reverse=True):  # ", flat style" before ", flat", which is part of it
        words = form.format(c="", s=style)
        if words in caption:
            return caption.replace(words, "")
    return caption


def renamed(caption: str, words: Collection[str], name: str) -> str:
    """A caption in which one of the words stands for an object, with `name` and its article in that place."""
    for word in sorted(words, key=len, reverse=True):  # "beer mug" before "beer"
        for before, after in ((with_article(word), with_article(name)), (word, name)):
            changed = re.sub(rf"\b{re.escape(before)}\b", after, caption)
            if changed != caption:
                return changed
    return caption
