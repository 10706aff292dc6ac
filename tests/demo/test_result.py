"""The result itself, on the embedded model: one neuron takes a concept out of pictures, and leaves the others alone.

The bars are those of README, a little lower, as a few concepts and pictures scatter. `make slow` runs the demo's own
settings on more concepts; the default run has a smaller SAE.
"""

from __future__ import annotations

import pytest

from snce.demo.laboratory import Laboratory
from snce.demo.table import validation_concepts
from snce.demo.workers import Trial, judge_trials
from snce.erase.build import STRENGTH

CONCEPTS = ("cigarette", "bomb", "violin")
MORE = ("kitchen knife", "syringe", "water pistol", "axe", "church", "pizza", "guitar", "elephant", "twemoji")


def means(lab, trained, concepts, folder, strength=STRENGTH):
    assert not set(concepts) & set(validation_concepts()), "settings were chosen on these"
    rows = [row for _, row in judge_trials(lab, trained.sae, [Trial(c, strength) for c in concepts], folder)]
    for row in rows:
        assert row["base_rate"] > 0.5, f"Emblem draws no {row['concept']}: nothing is tested"
    names = ("erased", "retention", "identical", "pair_target_gone", "pair_partner_kept")
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


def test_one_neuron_takes_a_concept_out_and_leaves_the_rest(laboratory, trained, folder):
    mean = means(laboratory, trained, CONCEPTS, folder)
    assert mean["erased"] >= 0.9
    assert mean["retention"] >= 0.95
    assert mean["identical"] >= 0.8


def test_the_pictures_stay_when_the_neuron_is_not_pushed(laboratory, trained, folder):
    mean = means(laboratory, trained, CONCEPTS[:1], folder, strength=0.0)
    assert mean["erased"] == 0
    assert mean["identical"] == mean["retention"] == 1


@pytest.mark.slow
def test_the_demo_does_what_readme_says(tmp_path):
    lab = Laboratory(progress=False)
    mean = means(lab, lab.train(), (*CONCEPTS, *MORE), tmp_path)
    assert mean["erased"] >= 0.93
    assert mean["retention"] >= 0.97
    assert mean["identical"] >= 0.8
    assert mean["pair_partner_kept"] >= 0.8
