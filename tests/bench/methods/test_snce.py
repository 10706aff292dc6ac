"""SNCE as a method of the benchmark: it is the library's eraser, attached."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snce.bench.methods.neurons import SNCE
from snce.erase.build import STRENGTH, build_eraser
from snce.errors import SnceError
from snce.neurons.find import find_neurons
from snce.text.harvest import harvest
from snce.text.positions import PADDING, WORD
from snce.text.prompts import Concept
from tests.bench.methods.tiny import CODES, LOUD, PROMPT_CODE, QQ, ZZZ
from tests.examples import encode, picture, same_bits
from tests.studio import NEUTRALS, TARGETS


def eraser_of(sae, tower, concept, n, strength):
    (rank_t, test_t), (rank_n, test_n) = (harvest(tower, p).halves() for p in (concept.targets, concept.neutrals))
    cards = find_neurons(sae, rank_t, rank_n)[:n]
    return build_eraser(concept.name, sae, cards, tower, test_t, test_n, strength)


@CODES
@pytest.mark.parametrize(("n", "strength"), [(1, STRENGTH), (1, 1.0), (4, 2.0)])
def test_snce_is_the_eraser_of_the_best_neurons_attached(sae, n, strength, shared_pipe, tower):
    erasure = SNCE(sae, n=n, strength=strength).prepare(shared_pipe, [ZZZ])
    eraser = eraser_of(sae, tower, ZZZ, n, strength)
    assert all(map(same_bits, erasure.eraser.neurons, eraser.neurons))
    assert erasure.eraser.card == eraser.card
    prompts = [*TARGETS, *NEUTRALS]
    with erasure.attached(shared_pipe):
        mine, drawn = encode(shared_pipe, prompts)[0], picture(shared_pipe, LOUD)
    with eraser.attach(shared_pipe):
        assert same_bits(encode(shared_pipe, prompts)[0], mine)
        assert picture(shared_pipe, LOUD) == drawn


def test_snce_edits_the_kinds_of_position_that_it_is_told_and_no_other(shared_pipe, tower):
    """Against the edit of all of them."""
    plain, kinds = tower.encode([LOUD]), tower.kinds(tower.tokenize([LOUD]))
    method = SNCE(PROMPT_CODE)
    everywhere = method.prepare(shared_pipe, [ZZZ]).eraser.edit(plain)
    with replace(method, positions=(WORD, PADDING)).prepare(shared_pipe, [ZZZ]).attached(shared_pipe):
        found = encode(shared_pipe, [LOUD])[0]
    told = (kinds == WORD) | (kinds == PADDING)
    assert same_bits(found[told], everywhere[told])
    assert same_bits(found[~told], plain[~told])
    assert not same_bits(found[told], plain[told])


def test_snce_of_two_concepts_is_the_union_of_their_erasers(shared_pipe, tower):
    both = SNCE(PROMPT_CODE).prepare(shared_pipe, [ZZZ, QQ]).eraser
    joined = eraser_of(PROMPT_CODE, tower, QQ, 1, STRENGTH) | eraser_of(PROMPT_CODE, tower, ZZZ, 1, STRENGTH)
    assert both.concepts == joined.concepts
    assert all(map(same_bits, both.neurons, joined.neurons))


def test_snce_says_that_it_needs_two_prompts_of_each_kind(shared_pipe):
    with pytest.raises(SnceError, match="'few' has 1 target and 2 neutral prompts; it takes two of each"):
        SNCE(PROMPT_CODE).prepare(shared_pipe, [Concept("few", ("a",), ("b", "c"))])
