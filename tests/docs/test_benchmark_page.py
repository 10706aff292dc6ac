"""The pages of the benchmark have the tables of its summary, and its settings are those that were tuned."""

from __future__ import annotations

import re

import pytest
from benchmarks.document_benchmark import LOOKS, PAGES, SUMMARY, tables

from snce.bench.join import read_summary
from snce.bench.lineup import FOR_SETS, METHODS
from snce.bench.summary import markdown
from snce.storage import read_json
from tests.docs.pages import DOCS

TUNED = read_json(DOCS / "benchmark" / "tuned.json", "tuned.json of snce bench")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_tables_that_the_command_makes(name):
    text = PAGES[name].read_text(encoding="utf-8")
    _, after = text.split(f"<!-- {name}:begin -->\n")
    assert after.split(f"\n<!-- {name}:end -->")[0] == tables()[name], "run: make docs"


def test_no_table_of_the_summary_is_left_out():
    found = tables()
    assert f"{found['results']}\n\n{found['tables']}\n" == markdown(read_summary(SUMMARY))
    assert found["results"].count("### ") == 2


def test_no_table_of_the_run_by_looks_is_left_out():
    found = tables()
    overview, others = re.split(r"\n\n(?=### )", found["look-alike-tables"], maxsplit=1)
    assert "\n\n".join([overview, found["look-alikes"], others]) + "\n" == markdown(read_summary(LOOKS))


def test_the_run_by_looks_has_the_settings_of_the_whole_run():
    whole, looks = (next(iter(read_summary(path).values())) for path in (SUMMARY, LOOKS))
    settings = ({name: found["setting"] for name, found in methods.items()} for methods in (whole, looks))
    assert str(next(settings)) == str(next(settings))  # NaN, where a method has none, is not equal to itself


@pytest.mark.parametrize(("makers", "task"), [(METHODS, "UCE (all tokens)"), (FOR_SETS, "UCE (all tokens), sets")])
def test_rece_begins_with_the_weight_that_uce_was_tuned_to(makers, task):
    assert makers["RECE"](None).uce.erase_weight == TUNED[task]["chosen"]
