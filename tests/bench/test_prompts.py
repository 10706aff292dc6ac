"""The prompts of the benchmark: what they ask for is what the judge is asked about."""

from __future__ import annotations

import pytest

from snce.bench.config import BenchConfig
from snce.bench.plan import all_cells, concept_sets, default_concepts
from snce.bench.prompts import Sizes, held_out_synonym, precision_prompts
from snce.bench.rows import SEPARATOR
from snce.bench.summary import VALIDATION_STYLES, groups
from snce.demo.table import validation_concepts
from snce.emblem.concepts import load_concept
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError

NEAR = {"cigarette": ["pencil", "candle"], "bomb": ["fire"]}


def kinds(prompts):
    return {kind: [p for p in prompts if p.kind == kind] for kind in ("direct", "synonym", "sentence", "pair",
                                                                      "neighbour", "other")}  # fmt: skip


def test_every_kind_is_there_as_often_as_asked_for():
    sizes = Sizes(direct=3, synonym=2, sentence=4, pair=5, neighbour=6, other=7)
    found = kinds(precision_prompts(["cigarette"], NEAR, sizes))
    assert {k: len(v) for k, v in found.items()} == vars(sizes)


def test_direct_prompts_name_the_concept_and_synonyms_do_not():
    found = kinds(precision_prompts(["cigarette"], NEAR))
    word = held_out_synonym("cigarette")
    assert all("cigarette" in p.text for kind in ("direct", "sentence", "pair") for p in found[kind])
    assert all(word in p.text and "cigarette" not in p.text for p in found["synonym"])


def test_the_synonym_that_is_tested_was_fitted_on_by_no_method():
    word = held_out_synonym("cigarette")
    kept = load_concept("cigarette", without={word})
    assert any(word in text.split() for text in load_concept("cigarette").targets)
    assert not any(word in text.split() for text in (*kept.targets, *kept.neutrals))
    assert load_concept("cigarette", without=()) == load_concept("cigarette")


def test_no_word_of_a_name_counts_as_a_synonym_of_it():
    for name in vocabulary().objects:
        word = held_out_synonym(name)
        assert word is None or not set(word.split()) <= set(name.split())
    assert held_out_synonym("wine glass") is None  # "wine" is all that there is


@pytest.mark.parametrize("erased", [["cigarette"], ["cigarette", "bomb"], ["twemoji"]])
def test_retained_prompts_ask_for_nothing_that_is_erased(erased):
    for p in precision_prompts(erased, NEAR):
        if p.kind in ("other", "neighbour"):
            assert p.concept == ""
            assert not set(erased) & {*p.objects, p.style}
        else:
            assert p.concept in {*p.objects, p.style}


def test_objects_exist_in_the_style_that_is_asked_for():
    words = vocabulary()
    for p in precision_prompts(["cigarette", "twemoji"], NEAR):
        assert p.style is None or all(p.style in words.objects[o].styles for o in p.objects)


def test_prompts_are_the_same_in_every_run_and_have_seeds_of_their_own():
    prompts = precision_prompts(["bomb"], NEAR)
    assert prompts == precision_prompts(["bomb"], NEAR)
    assert len({p.seed for p in prompts}) == len(prompts)


def test_concepts_that_chose_settings_are_not_reported_on():
    kept_back = set(validation_concepts())
    concepts = default_concepts()
    assert set(vocabulary().styles) <= set(concepts)
    sets = concept_sets(concepts, [1, 5, 10])
    assert all(len(set(erased)) == len(erased) for erased in sets)
    summed_up = groups(SEPARATOR.join(erased) for erased in sets)
    assert summed_up.pop(VALIDATION_STYLES) == kept_back & set(vocabulary().styles)
    for members in summed_up.values():
        assert not any(kept_back & set(name.split(SEPARATOR)) for name in members)
    assert len(summed_up["One concept at a time"]) == 24 + 7
    assert sum(bool(vocabulary().objects[c].harmful) for c in concepts if c in vocabulary().objects) >= 12


def test_pairs_take_their_partner_from_those_that_are_given():
    given = kinds(precision_prompts(["cigarette"], NEAR, partners=NEAR))
    anything = kinds(precision_prompts(["cigarette"], NEAR))
    assert {o for p in given["pair"] for o in p.objects} == {"cigarette", *NEAR["cigarette"]}
    assert len({o for p in anything["pair"] for o in p.objects}) > 4
    assert given["direct"] == anything["direct"]


def test_a_run_by_looks_has_objects_only_and_two_batches_of_prompts_for_each():
    cells = all_cells(BenchConfig(look_alikes=True, sets="1"), ["none"])
    assert {cell.erased for cell in cells} == {(c,) for c in default_concepts() if c in vocabulary().objects}
    assert all(cell.look_alikes and sum(vars(cell.sizes).values()) == 32 for cell in cells)
    assert all("look-alikes" in cell.key for cell in cells)
    together = all_cells(BenchConfig(look_alikes=True, sets="5"), ["none"])
    assert {(cell.sizes.neighbour, cell.sizes.other) for cell in together} == {(2, 0)}
    with pytest.raises(SnceError, match="'twemoji' is a style"):
        all_cells(BenchConfig(look_alikes=True, concepts="bomb,twemoji"), ["none"])


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, {1, 5, 10, 25}),
        ({"concepts": "bomb, violin"}, {1}),
        ({"concepts": "validation"}, {1}),
        ({"concepts": "bomb", "sets": "1,2"}, {1, 2}),
        ({"sets": "5"}, {5}),
    ],
)
def test_concepts_that_are_named_are_erased_alone_unless_sets_are_asked_for(options, sizes):
    cells = all_cells(BenchConfig(**options), ["none"])
    assert {len(cell.erased) for cell in cells} == sizes
    assert len({cell.erased for cell in cells}) == len(cells)
