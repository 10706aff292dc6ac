"""The summary of the benchmark: what is summed up together, and how its tables are ordered."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, isnan, nan

import pytest
from PIL import Image

from snce.bench import lineup, plots
from snce.bench.bootstrap import Interval
from snce.bench.join import join_summaries, read_summary
from snce.bench.measures import MEASURES
from snce.bench.plan import concept_sets, default_concepts
from snce.bench.plots import plot_heat_map, plot_trade_off
from snce.bench.report import Strip, write_report
from snce.bench.rows import SEPARATOR, read_rows, write_rows
from snce.bench.summary import (
    AHEAD,
    VALIDATION,
    VALIDATION_STYLES,
    ahead_cell,
    changes,
    groups,
    markdown,
    overview,
    summarise,
    write_summary,
)
from snce.demo.table import validation_concepts
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from tests.bench.test_rows import ROW


def found(value: float, stamp: str = "same", sets: int = 2) -> dict:
    """The figures of a method, all with this value."""
    figures = {name: Interval(value, value / 2, value)._asdict() for name in (*MEASURES, AHEAD)}
    costs = {"prepare seconds": 1.0, "bytes": 6000.0, "added time per picture": 0.0}
    told = {"setting": 1.0, "sets": sets, "pictures by kind": {"direct": 8 * sets, "pair": 7}, "stamp": stamp,
            "harmonic mean by set": {"bomb": value}}  # fmt: skip
    return {**figures, **costs, **told}


nothing = Interval(nan, nan, nan)._asdict()


def names(table: str) -> list[str]:
    return [line.split("|")[1].strip() for line in table.splitlines()[4:] if line.startswith("|")]


def test_no_concept_that_chose_a_setting_is_summed_up_with_the_others():
    sets = [SEPARATOR.join(erased) for erased in concept_sets(default_concepts(), (1, 5))]
    by_title = groups(sets)
    kept_back = set(validation_concepts())
    assert by_title[VALIDATION_STYLES] == kept_back & set(sets) != set()
    for title, members in by_title.items():
        if title != VALIDATION_STYLES:
            assert not any(kept_back & set(name.split(SEPARATOR)) for name in members)
    alone = by_title["One concept at a time"]
    assert alone == by_title["Harmful stand-ins"] | by_title["Other objects"] | by_title["Styles"]
    assert by_title["Styles"] <= set(vocabulary().styles)
    assert {len(by_title[title]) for title in ("Harmful stand-ins", "Other objects")} == {12}
    assert len(by_title["5 concepts together"]) == 2


def test_the_title_of_what_chose_settings_says_whether_objects_are_among_it():
    kept_back, styles = validation_concepts(), set(vocabulary().styles)
    assert groups(kept_back) == {VALIDATION: set(kept_back)}
    assert groups([name for name in kept_back if name in styles]) == {VALIDATION_STYLES: styles & set(kept_back)}
    assert groups([name for name in kept_back if name not in styles]).keys() == {VALIDATION}


def test_a_time_is_told_for_as_many_concepts_as_it_was_measured_with(tmp_path):
    """Adapters add their times up: what one takes says nothing of five."""
    cost = json.dumps({"prepare_seconds": 1.0, "bytes": 9})
    paths = [tmp_path / "one.parquet", tmp_path / "five.parquet"]
    for path, erased in zip(paths, (("bomb",), ("bomb", "axe", "pill", "bikini", "coffin")), strict=True):
        told = {"erased": SEPARATOR.join(erased), "method": "UCE", "cost": cost, "stamp": "s"}
        write_rows(path, [replace(ROW, erased=told["erased"])], told)
    summary = summarise(*read_rows(paths), {("UCE", 1): 0.25}, samples=10)
    assert summary[ALONE]["UCE"]["added time per picture"] == 0.25
    assert isnan(summary[FIVE]["UCE"]["added time per picture"])
    assert " | 9 B | +25% |" in markdown(summary)
    assert " | 9 B | - |" in markdown(summary)


def test_the_overview_ranks_by_its_first_group_and_leaves_gaps_where_nothing_was_measured():
    summary = {"One concept at a time": {"UCE": found(0.5), "SNCE": found(0.9)}, "5 together": {"UCE": found(0.7)}}
    table = overview(summary)
    assert names(table) == ["SNCE", "UCE"]
    assert "| SNCE | 90.0 (45 to 90) | - |" in table
    assert "| UCE | 50.0 (25 to 50) | 70.0 (35 to 70) |" in table
    assert names(overview({"One concept at a time": {"ESD": found(nan), "UCE": found(0.0)}})) == ["UCE", "ESD"]


def test_one_group_needs_no_overview():
    summary = {"One concept at a time": {"UCE": found(0.5)}}
    assert markdown(summary).startswith("### One concept at a time")
    assert markdown({**summary, "5 together": {"UCE": found(0.7)}}).startswith("### Harmonic mean")


def test_tables_say_how_many_pictures_they_rest_on():
    summary = {"One concept at a time": {"none": found(0.0, sets=3), "UCE": found(0.9, sets=2)}}
    tables = markdown(summary).split("\n### Retained pictures")[0]
    assert tables.endswith("\nPictures that the shares rest on, by kind of prompt: 24 direct, 7 pair.\n")


def test_the_last_table_tells_how_far_retained_pictures_change_the_fewest_first():
    none = found(1.0) | {"psnr of the changed": Interval(inf, inf, inf)._asdict()}  # no picture changed
    table = changes("Styles", {"UCE": found(0.25), "none": none, "leace": found(nan)})
    assert table.startswith("### Retained pictures: styles\n")
    assert names(table) == ["none", "UCE", "leace"]
    assert "| none | 100.0 (50 to 100) | - | 1.00 (0.50 to 1.00) | 1.00 (0.50 to 1.00) |" in table
    assert "| UCE | 25.0 (12 to 25) | 0.25 (0.12 to 0.25) |" in table
    assert markdown({"Styles": {"UCE": found(0.25)}, "5 together": {"UCE": found(0.5)}}).endswith(
        f"\n\n{changes('Styles', {'UCE': found(0.25)})}\n"
    )


def test_tables_say_how_far_ours_is_ahead():
    own = {"UCE": found(0.5) | {AHEAD: Interval(-0.012, -0.031, 0.2)._asdict()}, "SNCE": found(0.6) | {AHEAD: nothing}}
    head, _, ours, uce = markdown({"One concept at a time": own}).splitlines()[2:6]
    column = [cell.strip() for cell in head.split("|")].index("SNCE ahead by")
    assert [row.split("|")[column].strip() for row in (ours, uce)] == ["-", "-1.2 (-3.1 to +20.0)"]
    near = ahead_cell({AHEAD: Interval(0.03, -0.0004, 0.064)._asdict()})
    assert near == "+3.0 (-0.0 to +6.4)"  # the sign of what is rounded away says that zero is between the ends


def test_a_measure_that_no_method_has_is_not_in_the_table():
    nothing_of = {"kept: neighbours": Interval(nan, nan, nan)._asdict()}
    summary = {"Styles": {"UCE": found(0.5) | nothing_of, "SNCE": found(nan) | nothing_of}}
    head = markdown(summary).splitlines()[2]
    assert "kept: neighbours" not in head
    assert "kept: others" in head  # UCE has it
    assert "harmonic mean" in markdown({"Styles": {"UCE": found(nan)}}).splitlines()[2]


def test_a_method_that_was_measured_on_fewer_sets_says_so():
    summary = {"One concept at a time": {"none": found(0.0, sets=31), "UCE": found(0.9, sets=3)}}
    assert names(markdown(summary).split("### Retained")[0]) == ["UCE (3 of 31 sets)", "none"]
    assert names(overview(summary)) == ["UCE (3 of 31 sets)", "none"]
    assert "| UCE |" in markdown({"One concept at a time": {"UCE": found(0.9, sets=3)}})


def test_a_summary_is_json_for_all_readers_and_what_was_not_measured_stays_so(tmp_path):
    own = found(0.5) | {"setting": nan, "psnr of the changed": Interval(inf, nan, nan)._asdict()}
    write_summary(tmp_path, {"One concept at a time": {"UCE": own}})
    text = (tmp_path / "summary.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = read_summary(tmp_path / "summary.json")["One concept at a time"]["UCE"]
    assert isnan(back["setting"])
    assert all(isnan(value) for value in back["psnr of the changed"].values())
    assert back["harmonic mean"] == own["harmonic mean"]
    (tmp_path / "old.json").write_text(json.dumps({"a": {"UCE": own}}))  # as versions before wrote it
    assert isnan(read_summary(tmp_path / "old.json")["a"]["UCE"]["setting"])


def test_the_base_model_alone_is_plotted_too(tmp_path):
    """As in the first of many shards."""
    pytest.importorskip("matplotlib")
    for plot in (plot_heat_map, plot_trade_off):
        plot({"One concept at a time": {"none": found(0.0)}}, tmp_path / "plot.png")
        assert Image.open(tmp_path / "plot.png").size > (100, 100)


def test_only_our_own_method_has_its_colour_and_a_legend_tells_it(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.extend(figure.axes))
    methods = ("none", *lineup.METHODS, "score rule: itd")
    plot_trade_off({"One concept at a time": dict.fromkeys(methods, found(0.5))}, tmp_path / "plot.png")
    (axis,) = drawn
    ours = {"SNCE", "SNCE (2 neurons)", "SNCE (4 neurons)", "SNCE (8 neurons)"}
    colours = {text.get_text(): text.get_color() for text in axis.texts}
    assert colours.keys() == set(methods) - {"none"}
    assert {name for name, colour in colours.items() if colour == plots.ACCENT} == ours
    legend = axis.get_legend()
    handles = [handle.get_color() for handle in legend.legend_handles]
    assert dict(zip(handles, (text.get_text() for text in legend.texts), strict=True)) == {
        plots.ACCENT: "SNCE, with one neuron and with more", plots.QUIET: "all others",
    }  # fmt: skip


def test_a_report_names_methods_and_all_that_is_erased_and_does_without_a_missing_strip(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "there.png")
    strips = [
        Strip("SNCE (2 neurons)", ("beer mug", "axe"), tmp_path / "there.png"),
        Strip("UCE", ("axe",), tmp_path / "missing.png"),
    ]
    write_report(tmp_path / "report.html", {"One concept at a time": {"none": found(0.0)}}, [], strips)
    report = (tmp_path / "report.html").read_text()
    assert "<p>Pictures that the shares rest on, by kind of prompt: 16 direct, 7 pair.</p>" in report
    assert "<summary>beer mug, axe</summary>" in report
    assert "<figcaption>SNCE (2 neurons)</figcaption>" in report
    assert report.count("<img") == 1


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


def test_how_far_ours_is_ahead_is_not_told_of_another_result_of_ours():
    others = {ALONE: {"SNCE": found(0.9), "RECE": found(0.6)}}
    same = join_summaries({ALONE: {"none": found(0.0), "SNCE": found(0.9)}}, others)
    assert same[ALONE]["RECE"] == found(0.6)
    other = join_summaries({ALONE: {"none": found(0.0), "SNCE": found(0.8)}}, others)
    assert ahead_cell(other[ALONE]["RECE"]) == "-"
    assert other[ALONE]["RECE"]["harmonic mean"] == found(0.6)["harmonic mean"]
    without = join_summaries({ALONE: {"none": found(0.0)}}, others)
    assert without[ALONE]["RECE"] == found(0.6)
