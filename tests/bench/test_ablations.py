"""Ablations: one thing at a time differs from the default, and the default is the library's."""

from __future__ import annotations

from dataclasses import fields

import pytest

from snce.bench.ablations import ABLATIONS, DEFAULTS, FACTORS, ablation_tables
from snce.bench.lineup import METHODS, OURS
from snce.bench.measures import MEASURES
from snce.bench.plan import chosen_methods
from snce.bench.summary import AHEAD
from snce.demo.laboratory import CAPTIONS, SAE, TRAINING
from snce.erase.build import STRENGTH
from snce.neurons.scores import RULES


class Recorder:
    """A workshop that trains nothing and remembers what it was asked for."""

    sae = (SAE, TRAINING, CAPTIONS)

    def text_sae(self, name, config, training=TRAINING, captions=CAPTIONS):
        return config, training, captions


def what_differs(method) -> list[str]:
    config, training, captions = method.sae
    own = [f.name for f in fields(method) if f.name != "sae" and getattr(method, f.name) != f.default]
    sae = [f.name for f in fields(config) if getattr(config, f.name) != getattr(SAE, f.name)]
    how = [f.name for f in fields(training) if getattr(training, f.name) != getattr(TRAINING, f.name)]
    return own + sae + how + ["captions"] * (captions != CAPTIONS)


@pytest.mark.parametrize("name", [name for name in ABLATIONS if "BatchTopK and Matryoshka" not in name])
def test_a_variant_differs_in_one_thing(name):
    assert len(what_differs(ABLATIONS[name](Recorder()))) == 1


def test_every_variant_can_be_named_on_the_command_line():
    assert chosen_methods(",".join(ABLATIONS)) == ["none", *ABLATIONS]


def test_the_default_is_what_the_tables_call_it():
    method = METHODS[OURS](Recorder())
    assert what_differs(method) == []
    assert DEFAULTS.keys() == FACTORS.keys()
    assert DEFAULTS["score rule"] == method.rule
    assert DEFAULTS["neurons"] == str(method.n)
    assert DEFAULTS["strength"] == f"{STRENGTH:g}"
    assert (method.fitted, method.levelled) == (True, True)
    assert (SAE.activation, SAE.support, TRAINING.nested) == ("topk", "prompt", ())


def test_every_rule_is_compared():
    assert {*FACTORS["score rule"], DEFAULTS["score rule"]} == set(RULES)


def figures(value, ahead=float("nan")):
    told = {**dict.fromkeys(MEASURES, value), AHEAD: ahead}
    return {name: {"value": value, "low": value, "high": value} for name, value in told.items()}


def test_a_table_ranks_the_values_of_a_factor_and_marks_the_default():
    found = {OURS: figures(0.5), "neurons: 2": figures(0.75, -0.25), "neurons: 4": figures(0.25, 0.25)}
    text = ablation_tables(found)
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("| ")]
    assert rows == [
        ["neurons", "harmonic mean", "default ahead by"],
        ["2", "75.0 (75 to 75)", "-25.0 (-25.0 to -25.0)"],
        ["**1**", "50.0 (50 to 50)", "-"],
        ["4", "25.0 (25 to 25)", "+25.0 (+25.0 to +25.0)"],
    ]
    assert "SAE width" not in text


def test_a_measure_that_nothing_has_is_left_out():
    found = {
        OURS: figures(0.5),
        "neurons: 2": figures(0.75) | {"erased: synonym": figures(float("nan"))["harmonic mean"]},
    }
    assert "| erased: synonym |" in ablation_tables(found), "the default has it"
    found[OURS] = figures(0.5) | {"erased: synonym": found["neurons: 2"]["erased: synonym"]}
    assert "erased: synonym" not in ablation_tables(found)
    assert "| erased: direct |" in ablation_tables(found)
