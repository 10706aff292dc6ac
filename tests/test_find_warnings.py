"""`snce find` says when an eraser is likely to disappoint, and only then."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from snce.commands.found import show_neurons
from snce.neurons.find import CARRIES, NeuronCard


def warnings_of(capsys, frequencies, recall=1.0, false_fires=0.0):
    cards = [NeuronCard(i, 0.9, "modulated", f, 0.0, 1.0, 0.0, 1.0) for i, f in enumerate(frequencies)]
    point = {"threshold": 0.1, "recall": recall, "false_fires": false_fires}
    entry = {"neurons": [{**asdict(card), **point} for card in cards]}
    other = NeuronCard(99, 0.1, "modulated", 0.1, 0.0, 1.0, 0.0, 0.5)  # ranked, not chosen
    show_neurons([*cards, other], SimpleNamespace(card={"x": entry}, place="text_encoder.final_layer_norm"), "x")
    return " ".join(capsys.readouterr().err.split())


def test_a_good_neuron_gives_no_warning(capsys):
    assert warnings_of(capsys, [1.0]) == ""
    assert warnings_of(capsys, [CARRIES]) == ""


def test_a_neuron_that_carries_a_part_of_the_concept_is_pointed_out(capsys):
    assert "this neuron in 85% of the target prompts" in warnings_of(capsys, [0.85])


def test_one_good_neuron_among_several_is_enough(capsys):
    assert warnings_of(capsys, [0.95, 0.5]) == ""
    assert "each of these neurons in 80%" in warnings_of(capsys, [0.8, 0.5])


@pytest.mark.parametrize("point", [{"recall": 0.85}, {"false_fires": 0.06}])
def test_a_poor_operating_point_is_pointed_out(capsys, point):
    assert "at best" in warnings_of(capsys, [1.0], **point)
