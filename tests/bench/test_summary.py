"""The summary of the benchmark: what is summed up together, and how its tables are ordered."""

from __future__ import annotations

import pytest

from snce.bench.join import join_summaries, read_summary
from snce.bench.measures import MEASURES, Interval
from snce.bench.plan import concept_sets, default_concepts
from snce.bench.rows import SEPARATOR
from snce.bench.summary import VALIDATION, groups, markdown, overview, write_summary
from snce.demo.table import validation_concepts
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError


def found(value: float, stamp: str = "same") -> dict:
    """The figures of a method, all with this value."""
    figures = {name: Interval(value, value / 2, value)._asdict() for name in MEASURES}
    costs = {"prepare seconds": 1.0, "bytes": 6000.0, "added time per picture": 0.0}
    return {**figures, **costs, "setting": 1.0, "harmonic mean by set": {"bomb": value}, "stamp": stamp}


def names(table: str) -> list[str]:
    return [line.split("|")[1].strip() for line in table.splitlines()[4:]]


def test_no_concept_that_chose_a_setting_is_summed_up_with_the_others():
    sets = [SEPARATOR.join(erased) for erased in concept_sets(default_concepts(), (1, 5))]
    by_title = groups(sets)
    kept_back = set(validation_concepts())
    assert by_title[VALIDATION] == kept_back & set(sets) != set()
    for title, members in by_title.items():
        if title != VALIDATION:
            assert not any(kept_back & set(name.split(SEPARATOR)) for name in members)
    alone = by_title["One concept at a time"]
    assert alone == by_title["Harmful stand-ins"] | by_title["Other objects"] | by_title["Styles"]
    assert by_title["Styles"] <= set(vocabulary().styles)
    assert {len(by_title[title]) for title in ("Harmful stand-ins", "Other objects")} == {12}
    assert len(by_title["5 concepts together"]) == 2


def test_the_overview_ranks_by_its_first_group_and_leaves_gaps_where_nothing_was_measured():
    summary = {"One concept at a time": {"UCE": found(0.5), "SNCE": found(0.9)}, "5 together": {"UCE": found(0.7)}}
    table = overview(summary)
    assert names(table) == ["SNCE", "UCE"]
    assert "| SNCE | 90.0 (45 to 90) | - |" in table
    assert "| UCE | 50.0 (25 to 50) | 70.0 (35 to 70) |" in table


def test_one_group_needs_no_overview():
    summary = {"One concept at a time": {"UCE": found(0.5)}}
    assert markdown(summary).startswith("### One concept at a time")
    assert markdown({**summary, "5 together": {"UCE": found(0.7)}}).startswith("### Harmonic mean")


ALONE, FIVE = "One concept at a time", "5 concepts together"


def test_joining_adds_what_was_not_measured_and_keeps_what_was(tmp_path):
    write_summary(
        tmp_path, {ALONE: {"none": found(0.0), "UCE": found(0.4), "RECE": found(0.6)}, FIVE: {"UCE": found(0.1)}}
    )
    own = {ALONE: {"none": found(0.0), "UCE": found(0.5), "mine": found(0.9)}}
    joined = join_summaries(own, read_summary(tmp_path / "summary.json"))
    assert joined == {ALONE: {**own[ALONE], "RECE": found(0.6)}, FIVE: {"UCE": found(0.1)}}
    assert join_summaries(own, {}) == own


def test_what_was_measured_on_other_prompts_is_not_joined():
    own = {ALONE: {"none": found(0.0)}}
    with pytest.raises(SnceError, match="'RECE' in 'One concept at a time' was measured on other"):
        join_summaries(own, {ALONE: {"RECE": found(0.6, stamp="other")}})
    assert join_summaries(own, {FIVE: {"RECE": found(0.6, stamp="other")}}).keys() == {ALONE, FIVE}


@pytest.mark.parametrize(
    "text", [None, "", "[]", "7", '{"a": 1}', '{"a": {"UCE": {}}}', '{"a": {"UCE": {"stamp": 1}}}']
)
def test_what_is_no_summary_is_refused(text, tmp_path):
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SnceError, match=r"cannot read|is no summary\.json"):
        read_summary(path)
