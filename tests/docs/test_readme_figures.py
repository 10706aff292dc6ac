"""The README's figures are those of the pages that have all of them."""

from collections import Counter

import pytest
from benchmarks.document_benchmark import LOOKS

from snce.bench.join import read_summary
from tests.docs.benchmark_tables import value
from tests.docs.pages import DOCS

README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in README.split("## Benchmark\n")[1].split("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| method ")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_method_has_the_figures_of_the_benchmark(row):
    method, *figures = row
    assert figures == [
        value("Harmonic mean", method, "One concept at a time"),
        value("Harmonic mean", method, "Harmful stand-ins"),
        value("Harmonic mean", method, "Styles"),
        value("One concept at a time", method, "identical"),
    ]


def test_the_best_rivals_are_in_it():
    overview = (DOCS / "benchmark.md").read_text(encoding="utf-8").split("### Harmonic mean\n")[1].split("### ")[0]
    ranked = [line.split(" | ")[0][2:] for line in overview.strip().splitlines()[2:] if line.startswith("| ")]
    rivals = [name for name in ranked if not name.startswith("SNCE")]
    assert [row[0] for row in ROWS][1:6] == rivals[:5]


def test_the_figures_by_looks_are_those_of_that_run():
    found = read_summary(LOOKS)["One concept at a time"]
    uce, ours = (f"{100 * found[name]['harmonic mean']['value']:.1f}" for name in ("UCE", "SNCE"))
    assert f"UCE has {uce} and SNCE {ours}," in README


def test_as_many_concepts_share_a_neuron_as_the_table_of_concepts_says():
    lines = (DOCS / "concepts.md").read_text(encoding="utf-8").splitlines()
    neurons = [line.split(" | ")[1] for line in lines if line.startswith("| ") and not line.startswith("| concept ")]
    sharing = sum(n for n in Counter(neurons).values() if n > 1)
    assert f"\n{sharing} of {len(neurons)} concepts share their neuron with another of them.\n" in README
