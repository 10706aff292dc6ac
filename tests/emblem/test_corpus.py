"""The captions that SAEs are trained on: fixed by their seed, about everything, and short enough."""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random

import pytest

from snce.emblem import captions
from snce.emblem.corpus import PAIR_SHARE, SYNONYM_SHARE, caption_of, captions_for_training
from snce.emblem.vocabulary import vocabulary
from tests.emblem.reading import objects_named, printed_elsewhere, styles_named, words_named, words_of


@pytest.fixture(scope="module")
def corpus():
    return captions_for_training(10_000)


def test_the_seed_gives_the_same_captions_in_every_process():
    code = "from snce.emblem.corpus import captions_for_training as c; print(c(300, 5))"
    assert printed_elsewhere(code, 1) == printed_elsewhere(code, 2) == f"{captions_for_training(300, 5)}\n"


def test_another_seed_gives_other_captions():
    assert captions_for_training(100, 0) != captions_for_training(100, 1)


def test_fewer_captions_are_the_beginning_of_more(corpus):
    assert captions_for_training(500) == corpus[:500]


def test_every_object_and_every_style_occurs_often(corpus):
    objects = Counter(name for text in corpus for name in objects_named(text))
    styles = Counter(style for text in corpus for style in styles_named(text))
    assert set(objects) == set(vocabulary().objects)
    assert min(objects.values()) >= 10
    assert set(styles) == set(vocabulary().styles)
    assert min(styles.values()) >= 500


def test_synonyms_are_used_as_often_as_stated(corpus):
    said = [(word, name) for text in corpus for word, name in words_named(text) if vocabulary()[name].synonyms]
    share = sum(word != name for word, name in said) / len(said)
    assert abs(share - SYNONYM_SHARE) < 0.02


def test_pairs_and_anchors_have_their_share(corpus):
    count = Counter(len(objects_named(text)) for text in corpus)
    assert set(count) == {0, 1, 2}
    assert abs(count[2] / len(corpus) - PAIR_SHARE) < 0.02


def test_a_caption_of_nothing_is_an_anchor():
    assert caption_of([], Random(0), None, None) in captions.ANCHORS


def test_the_longest_caption_that_can_occur_fits_the_encoder(emblem):
    lengths = {w: len(emblem.tokenizer(w).input_ids) for name in vocabulary().objects for w in words_of(name)}
    first, second = sorted(lengths, key=lambda w: lengths[w])[-2:]
    x, y = captions.with_article(first), captions.with_article(second)
    cores = [t.format(x=x, y=y, bare=first) for t in captions.PLAIN + captions.SENTENCES + captions.PAIRS]
    longest = [
        t.format(c=core, s=style) + f" on a {colour} background"
        for core, t, style, colour in product(cores, captions.STYLED, vocabulary().styles, captions.BACKGROUNDS)
    ]
    sizes = [len(ids) for ids in emblem.tokenizer(longest, truncation=False).input_ids]
    assert max(sizes) <= emblem.tokenizer.model_max_length
