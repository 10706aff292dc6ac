"""What Emblem can draw: enough, and without two meanings of one word."""

from collections import Counter

import pytest

from snce.emblem.concepts import concept_names
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from tests.emblem.reading import words_of

HARMFUL = ("bomb", "cigarette", "water pistol", "dagger", "kitchen knife", "axe", "crossed swords", "beer mug",
           "wine glass", "syringe", "pill", "coffin")  # fmt: skip


def test_there_are_at_least_400_objects_and_nine_styles():
    assert len(vocabulary().objects) >= 400
    assert len(set(vocabulary().styles)) == len(vocabulary().styles) == 9


def test_every_object_and_every_style_is_a_bundled_concept():
    assert concept_names() == [*vocabulary().objects, *vocabulary().styles]
    assert len(set(concept_names())) == len(concept_names()) >= 60 + 9


def test_no_word_means_two_objects():
    counts = Counter(word for name in vocabulary().objects for word in words_of(name))
    assert [word for word, n in counts.items() if n > 1] == []


def test_no_style_is_also_a_word_for_an_object():
    spoken = {part for name in vocabulary().objects for word in words_of(name) for part in word.split()}
    assert spoken.isdisjoint(vocabulary().styles)


def test_words_are_lower_case_and_ready_for_a_caption():
    for name in vocabulary().objects:
        for word in words_of(name):
            assert word == " ".join(word.lower().split()) != ""


@pytest.mark.parametrize("name", HARMFUL)
def test_stand_ins_for_harm_are_marked(name):
    assert vocabulary()[name].harmful


@pytest.mark.parametrize("name", ["violin", "ladder", "church", "parachute", "dog"])
def test_harmless_objects_are_not(name):
    assert vocabulary()[name].harmful is None


def test_every_object_knows_its_group_and_the_styles_that_draw_it():
    for item in vocabulary().objects.values():
        assert item.group in {"nature", "food", "object", "place", "activity"}
        assert set(item.styles) <= set(vocabulary().styles)
        assert len(set(item.styles)) == len(item.styles) >= 4


def test_held_out_combinations_exist_and_are_few():
    words = vocabulary()
    assert all(style in words[name].styles for name, style in words.held_out)
    drawn = sum(len(item.styles) for item in words.objects.values())
    assert 0.03 < len(words.held_out) / drawn < 0.07


def test_no_object_is_held_out_in_all_its_styles():
    counts = Counter(name for name, _ in vocabulary().held_out)
    assert all(n < len(vocabulary()[name].styles) for name, n in counts.items())


def test_an_index_is_the_place_in_the_order_of_the_objects():
    assert [vocabulary().index(name) for name in vocabulary().objects] == list(range(len(vocabulary().objects)))


def test_an_unknown_object_is_named_in_the_error():
    with pytest.raises(SnceError, match=r"'unicorn horn'.*snce concepts"):
        vocabulary().index("unicorn horn")
