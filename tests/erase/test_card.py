"""The card beside an eraser says what whoever relies on it must know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snce.erase.card import render_card
from snce.neurons.find import CARRIES


def card_of(eraser, **figures):
    concept = eraser.concepts[0]
    row = {"neuron": 7, "score": 0.9, "rule": "modulated", "threshold": 0.1, "recall": 1.0, "false_fires": 0.02}
    entry = {"neurons": [row | figures], "target_prompts": 40, "neutral_prompts": 160}
    return render_card(replace(eraser, card={concept: entry}), "x.safetensors")


def test_it_has_the_operating_point_and_on_how_many_prompts_it_was_measured(erasers):
    text = card_of(erasers[0][0], frequency_target=1.0)
    assert "| 7 | 0.900 | modulated | 0.100 | 100.0% | 2.0% |" in text
    assert "40 target and 160 neutral prompts" in text


@pytest.mark.parametrize(("frequency", "told"), [(CARRIES - 0.05, True), (CARRIES, False), (1.0, False)])
def test_it_tells_of_a_neuron_that_carries_a_part_of_the_concept(erasers, frequency, told):
    assert ("others carry a part" in card_of(erasers[0][0], frequency_target=frequency)) == told


def test_it_has_the_strengths_of_all_parts(erasers):
    eraser = erasers[0][0].with_strength(1)
    other = replace(eraser.with_strength(2), tower="text_encoder_2")
    assert "with strength 1, 2." in render_card(eraser | other, "x.safetensors")
