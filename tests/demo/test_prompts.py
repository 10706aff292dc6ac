"""Test prompts: what they name is what their pictures should show, and they are not those that found the neuron."""

import pytest

from snce.demo.prompts import test_set as make_test_set
from snce.emblem.concepts import concept_names, load_concept
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from tests.emblem.reading import objects_named, printed_elsewhere, styles_named


def everything(tests):
    return (*tests.direct, *tests.pairs, *tests.retain)


def test_a_prompt_names_its_objects_and_its_style_and_no_others():
    for concept in concept_names():
        for prompt in everything(make_test_set(concept)):
            assert objects_named(prompt.text) == set(prompt.objects)
            assert styles_named(prompt.text) == ({prompt.style} if prompt.style else set())


def test_direct_prompts_are_of_the_object_pairs_have_it_in_company_retained_ones_lack_it():
    for name in vocabulary().objects:
        tests = make_test_set(name)
        assert all(p.objects == (name,) for p in tests.direct)
        assert all(name in p.objects and len(set(p.objects)) == 2 for p in tests.pairs)
        assert not any(name in p.objects for p in tests.retain)
        assert {len(p.objects) for p in tests.retain} == {1, 2}


@pytest.mark.parametrize("style", vocabulary().styles)
def test_direct_prompts_are_in_the_style_and_retained_ones_in_another(style):
    tests = make_test_set(style)
    assert all(p.style == style for p in tests.direct)
    assert all(p.style not in (style, None) for p in tests.retain)
    assert tests.pairs == ()


def test_no_prompt_asks_for_a_style_that_does_not_draw_its_objects():
    for concept in concept_names():
        for prompt in everything(make_test_set(concept)):
            assert prompt.style is None or all(prompt.style in vocabulary()[o].styles for o in prompt.objects)


def test_half_of_the_retained_prompts_are_of_near_neighbours():
    for name in ("violin", "cigarette", "dog"):
        retain = make_test_set(name).retain
        near = [all(vocabulary()[o].group == vocabulary()[name].group for o in p.objects) for p in retain]
        assert sum(near) >= len(retain) // 2


def test_every_picture_has_a_seed_of_its_own():
    seeds = [p.seed for p in everything(make_test_set("cigarette"))]
    assert len(set(seeds)) == len(seeds)


def test_the_number_of_prompts_is_as_asked():
    assert [len(g) for g in (lambda t: (t.direct, t.pairs, t.retain))(make_test_set("bomb", 3, 4, 5))] == [3, 4, 5]
    assert [len(g) for g in (lambda t: (t.direct, t.pairs, t.retain))(make_test_set("flat", 3, 4, 5))] == [7, 0, 5]


def test_they_repeat_prompts_that_found_the_neuron_only_where_there_are_few_ways_to_speak():
    """Captions such as "a cigarette" coincide by chance; those of two objects have room enough not to."""
    repeated, total = 0, 0
    for name in vocabulary().objects:
        concept, tests = load_concept(name), make_test_set(name)
        known = {*concept.targets, *concept.neutrals}
        again = [p for p in everything(tests) if p.text in known]
        assert len(again) <= 0.15 * len(everything(tests))
        assert sum(len(p.objects) == 2 for p in again) <= 1
        repeated, total = repeated + len(again), total + len(everything(tests))
    assert repeated <= 0.05 * total


@pytest.mark.parametrize("concept", ["cigarette", "flat"])
def test_they_are_the_same_in_every_process(concept):
    code = f"from snce.demo.prompts import test_set as t; print(t({concept!r}))"
    assert printed_elsewhere(code, 1) == printed_elsewhere(code, 2) == f"{make_test_set(concept)}\n"


def test_an_unknown_concept_is_refused():
    with pytest.raises(SnceError, match="'qqq'"):
        make_test_set("qqq")
