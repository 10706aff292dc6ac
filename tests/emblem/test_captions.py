"""Captions name what they are given, and nothing else."""

from random import Random

import pytest

from snce.emblem import captions
from tests.emblem.reading import objects_named, styles_named

SEEDS = range(200)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cigarette", "a cigarette"),
        ("apple", "an apple"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("one piece swimsuit", "a one piece swimsuit"),
        ("euro banknote", "a euro banknote"),
        ("crossed swords", "crossed swords"),
        ("bread", "bread"),
    ],
)
def test_articles_are_english(name, expected):
    assert captions.with_article(name) == expected


def test_a_caption_of_one_object_names_it_and_no_other():
    for seed in SEEDS:
        assert objects_named(captions.single("violin", Random(seed))) == {"violin"}


def test_a_caption_of_two_names_both_from_left_to_right():
    for seed in SEEDS:
        text = captions.pair("bomb", "violin", Random(seed))
        assert objects_named(text) == {"bomb", "violin"}
        assert text.index("bomb") < text.index("violin")


def test_an_anchor_names_no_object():
    assert all(not objects_named(captions.anchor(Random(seed), "flat", "blue")) for seed in SEEDS)


def test_style_and_background_are_named_if_and_only_if_they_are_given():
    for seed in SEEDS:
        full = captions.single("violin", Random(seed), "twemoji", "pink")
        assert styles_named(full) == {"twemoji"}
        assert "pink background" in full
        bare = captions.single("violin", Random(seed))
        assert styles_named(bare) == set()
        assert "background" not in bare


def test_no_phrase_around_the_words_names_an_object_or_a_style():
    phrases = [*captions.PLAIN, *captions.SENTENCES, *captions.PAIRS, *captions.STYLED, *captions.ANCHORS]
    for phrase in phrases:
        text = phrase.format(x="", y="", bare="", c="", s="")
        assert objects_named(text) == styles_named(text) == set()
    assert all(objects_named(f"{colour} background") == set() for colour in captions.BACKGROUNDS)


def test_all_ways_of_speaking_occur():
    texts = {captions.single("violin", Random(seed)) for seed in range(2000)}
    assert len(texts) == len({t.format(x="a violin", bare="violin") for t in captions.PLAIN + captions.SENTENCES})


def test_the_same_random_state_gives_the_same_caption():
    for seed in SEEDS:
        first, second = (captions.pair("bomb", "violin", Random(seed), "flat", "grey") for _ in range(2))
        assert first == second
