"""The bundled concepts: their prompts name them, all others do not."""

import re
from collections import Counter

import pytest

from snce.emblem.concepts import NEUTRALS, TARGETS, concept_names, counterpart, load_concept
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from tests.emblem.reading import objects_named, printed_elsewhere, styles_named, words_of


def test_every_target_prompt_names_its_object_and_no_neutral_prompt_does():
    for name in vocabulary().objects:
        concept = load_concept(name)
        assert all(name in objects_named(text) for text in concept.targets)
        assert not any(name in objects_named(text) for text in concept.neutrals)


@pytest.mark.parametrize("style", vocabulary().styles)
def test_every_target_prompt_names_its_style_and_no_neutral_prompt_does(style):
    concept = load_concept(style)
    assert all(styles_named(text) == {style} for text in concept.targets)
    assert not any(style in styles_named(text) for text in concept.neutrals)


def test_each_concept_has_its_number_of_prompts_and_its_mark():
    for name in concept_names():
        concept = load_concept(name)
        assert (concept.name, len(concept.targets), len(concept.neutrals)) == (name, TARGETS, NEUTRALS)
        assert concept.harmful == (vocabulary()[name].harmful if name in vocabulary().objects else None)


def test_targets_speak_of_a_concept_by_all_its_words_alone_and_in_company():
    targets = load_concept("beer mug").targets
    assert all(any(word in text for text in targets) for word in words_of("beer mug"))
    sizes = [len(objects_named(text)) for text in targets]
    assert min(sizes.count(1), sizes.count(2)) >= TARGETS / 4
    assert set(sizes) == {1, 2}


def test_near_neighbours_are_among_the_neutral_prompts():
    group = vocabulary()["violin"].group
    named = [vocabulary()[n].group for text in load_concept("violin").neutrals for n in objects_named(text)]
    everywhere = sum(item.group == group for item in vocabulary().objects.values()) / len(vocabulary().objects)
    assert named.count(group) / len(named) > everywhere + 0.2


def test_neutral_prompts_of_a_style_name_all_others_and_none():
    named = [frozenset(styles_named(text)) for text in load_concept("flat").neutrals]
    assert set(named) == {frozenset(), *(frozenset({s}) for s in vocabulary().styles if s != "flat")}


@pytest.mark.parametrize("name", ["cigarette", "flat"])
def test_a_concept_is_the_same_in_every_process(name):
    code = f"from snce.emblem.concepts import load_concept as c; print(c({name!r}))"
    assert printed_elsewhere(code, 1) == printed_elsewhere(code, 2) == f"{load_concept(name)}\n"


def test_a_concept_survives_its_file(tmp_path):
    concept = load_concept("cigarette")
    concept.save(tmp_path / "cigarette.yaml")
    assert type(concept).load(tmp_path / "cigarette.yaml") == concept


def test_an_unknown_concept_is_refused_with_those_that_come_near():
    with pytest.raises(SnceError, match=r"'wine bottle'; did you mean .*wine glass.*snce concepts"):
        load_concept("wine bottle")
    with pytest.raises(SnceError, match=r"'qqq' \(`snce concepts`"):
        load_concept("qqq")


def test_a_counterpart_is_the_same_prompt_with_a_neighbour_in_the_objects_place():
    for name in vocabulary().objects:
        concept = load_concept(name)
        for prompt in concept.targets:
            before, after = objects_named(prompt), objects_named(counterpart(concept, prompt))
            (other,) = after - before
            assert (after - {other}, before - after) == (before - {name}, {name}), prompt
            assert vocabulary()[other].group == vocabulary()[name].group
            assert styles_named(prompt) == styles_named(counterpart(concept, prompt))


@pytest.mark.parametrize("style", vocabulary().styles)
def test_a_counterpart_of_a_style_is_the_same_prompt_without_it(style):
    concept = load_concept(style)
    for prompt in concept.targets:
        bare = counterpart(concept, prompt)
        assert styles_named(bare) == set()
        assert objects_named(bare) == objects_named(prompt)
        assert not Counter(re.findall(r"\w+", bare)) - Counter(re.findall(r"\w+", prompt))


def test_counterparts_keep_the_grammar():
    concept = load_concept("beer mug")
    others = {counterpart(concept, f"{word} next to a cat in flat style") for word in ("beer", "a beer mug", "ale")}
    assert all(text.endswith(" next to a cat in flat style") for text in others)
    assert "a beer" not in " ".join(others)
    assert counterpart(load_concept("flat"), "in flat style, a red cat") == "a red cat"
    assert counterpart(load_concept("flat"), "a cat drawn in flat style, blue background") == "a cat, blue background"
