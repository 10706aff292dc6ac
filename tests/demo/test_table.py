"""The table of many concepts: which it is made of, and how it sums them up."""

import json
import math
import re

import pytest

from snce.demo.table import (
    DRAWN_WELL,
    chosen_concepts,
    interval,
    row_table,
    stored_rows,
    summary_table,
    validation_concepts,
)
from snce.emblem.concepts import concept_names
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from tests.emblem.reading import printed_elsewhere


def row(concept, base_rate=1.0, erased=1.0, pair_target_gone=1.0, frequency_target=1.0):
    return {
        "concept": concept, "neuron": 7, "score": 0.5, "base_rate": base_rate, "erased": erased, "retention": 1.0,
        "identical": 1.0, "pair_target_gone": pair_target_gone, "pair_partner_kept": 1.0,
        "frequency_target": frequency_target,
    }  # fmt: skip


def test_all_concepts_are_those_on_which_no_setting_was_chosen():
    validation = validation_concepts()
    assert len(set(validation)) == len(validation) == 24
    assert sum(name in vocabulary().styles for name in validation) == 2
    assert set(chosen_concepts("all")).isdisjoint(validation)
    assert {*chosen_concepts("all"), *validation} == set(concept_names())


def test_validation_concepts_are_the_same_in_every_process():
    code = "from snce.demo.table import validation_concepts as v; print(v())"
    assert printed_elsewhere(code, 1) == printed_elsewhere(code, 2) == f"{validation_concepts()}\n"


def test_names_may_be_given_with_commas_and_count_once():
    assert chosen_concepts("bomb, water pistol,flat,bomb,") == ["bomb", "water pistol", "flat"]


def test_an_interval_holds_its_mean_and_narrows_with_more_concepts():
    def parts(values):
        return [float(x) for x in re.findall(r"[\d.]+", interval(values))]

    mean, low, high = parts([0.0, 0.5, 1.0, 1.0])
    assert mean == pytest.approx(62.5, abs=0.051)
    assert 0 <= low < mean < high <= 100
    many_mean, many_low, many_high = parts([0.0, 0.5, 1.0, 1.0] * 50)
    assert many_mean == mean
    assert many_high - many_low < (high - low) / 3


def test_an_interval_of_equals_is_a_point_and_of_nothing_a_dash():
    assert interval([0.25, 0.25]) == "25.0 % (25.0 to 25.0)"
    assert interval([]) == "-"


def test_concepts_that_are_hardly_drawn_do_not_count_and_are_counted():
    rows = [row("bomb"), row("violin", erased=0.5), row("dog", base_rate=DRAWN_WELL - 0.01, erased=0.0)]
    text = summary_table(rows)
    assert "| objects | 2 | 75.0 %" in text
    assert "| of these, harmful stand-ins | 1 | 100.0 %" in text
    assert "| styles |" not in text, "there are none to report on"
    assert "1 of 3 concepts are left out" in text


def test_concepts_without_a_neuron_of_their_own_are_counted():
    rows = [row("bomb"), row("violin"), row("dog") | {"neuron": 8}, row("axe", base_rate=0.0)]
    assert "3 of 4 concepts share their neuron" in summary_table(rows)
    assert "0 of 1 concepts share their neuron" in summary_table(rows[:1])


def test_concepts_that_a_neuron_carries_in_part_are_summed_up_apart():
    text = summary_table([row("bomb"), row("violin", frequency_target=0.8, erased=0.5)])
    assert "| all whose neuron fires in 90% of their prompts | 1 | 100.0 %" in text
    assert "| all others | 1 | 50.0 %" in text
    assert "| objects | 2 | 75.0 %" in text


def test_what_no_picture_shows_is_left_out_of_its_mean_alone():
    text = summary_table([row("bomb"), row("violin", pair_target_gone=math.nan)])
    assert "nan" not in text
    assert text.count("100.0 % (100.0 to 100.0)") == 15


def test_the_worst_erased_come_first_and_a_missing_figure_is_a_dash():
    lines = row_table([row("bomb"), row("violin", erased=0.2, pair_target_gone=math.nan), row("axe")]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["violin", "axe", "bomb"]
    assert lines[2] == "| violin | 7 | 0.50 | 100 % | 20 % | 100 % | 100 % | - | 100 % |"


def test_a_concept_without_any_picture_of_it_does_not_spoil_the_order():
    rows = [row("bomb"), row("violin", base_rate=0.0, erased=math.nan), row("axe", erased=0.5)]
    lines = row_table(rows).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["axe", "bomb", "violin"]


def test_rows_of_an_earlier_run_are_those_that_it_wrote_or_none(tmp_path):
    path, rows = tmp_path / "concepts.json", [row("bomb"), row("dog", erased=math.nan)]
    assert stored_rows(path, ["a"]) == []
    path.write_text(json.dumps({"stamp": ["a"], "rows": rows}))
    assert [r["concept"] for r in stored_rows(path, ["a"])] == ["bomb", "dog"]
    assert stored_rows(path, ["b"]) == []


@pytest.mark.parametrize("change", [{"concept": 7}, {"erased": "1"}, {"score": None}, {"neuron": 10**400}, None])
def test_damaged_rows_of_an_earlier_run_are_one_clear_line(tmp_path, change):
    path, damaged = tmp_path / "concepts.json", row("dog") | (change or {})
    if change is None:
        damaged["cnncept"] = damaged.pop("concept")
    path.write_text(json.dumps({"stamp": ["a"], "rows": [row("bomb"), damaged]}))
    with pytest.raises(SnceError, match=r"concepts\.json is damaged"):
        stored_rows(path, ["a"])
