"""Files gone wrong: every parser gives a right result or a clear error, soon, and within its memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings

from snce.errors import SnceError
from tests.reliability.documents import documents
from tests.reliability.limits import cpu_seconds, traced
from tests.reliability.parsers import Parser, parsers
from tests.reliability.records import records

SUMMARY = (Path(__file__).parents[2] / "docs" / "benchmark" / "summary.json").read_bytes()
CONSTANT = 4_000_000
"""Bytes beside twice the file's size: the interpreter's own, such as what an exception and its message take."""
NAMES = (
    "eraser", "old eraser", "eraser of towers", "SAE", "old SAE", "checkpoint", "cfg.json of sparsify",
    "weights of sparsify", "cfg.json of SAELens", "weights of SAELens", "prompts.txt", "prompts.csv", "concept",
    "tuned.json", "summary.json", "settings.json", "README.md", "CSV of a suite", "progress.json", "suite.json",
    "concepts.json", "results.parquet",
)  # fmt: skip
OF_CONTENTS = ("concept ", "a concept ", "this SAE ", "the SAE ", "the header of README.md ")
"""Complaints of what a whole file says do not name the file."""
QUICK, SLOW = 20, 1000
"""Different files of each kind."""
every_parser = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def table(tmp_path_factory, tower) -> dict[str, Parser]:
    folder = tmp_path_factory.mktemp("valid")
    found = {p.name: p for p in (*parsers(folder, SUMMARY, tower), *documents(), *records(folder, tower))}
    assert tuple(found) == NAMES
    return found


def test_the_slow_suite_tries_ten_thousand_files():
    assert SLOW * len(NAMES) >= 10_000


@every_parser
def test_a_valid_file_is_read(table, tmp_path, name):
    parser = table[name]
    path = tmp_path / f"f{parser.suffix}"
    path.write_bytes(parser.content)
    parser.right(parser.read(path), parser.content)


@every_parser
def test_a_file_gone_wrong_gives_a_right_result_or_a_clear_error(table, tmp_path, name):
    fuzz(table[name], tmp_path, QUICK)


@pytest.mark.slow
@every_parser
def test_ten_thousand_files_gone_wrong_give_right_results_or_clear_errors(table, tmp_path, name):
    fuzz(table[name], tmp_path, SLOW)


@pytest.mark.parametrize("name", [name for name in NAMES if ".json" in name])
def test_json_that_is_cut_deep_huge_or_of_other_types(table, tmp_path, name):
    """Of the whole file, and of values at its top and one below."""
    parser = table[name]
    whole = json.loads(parser.content)
    odd = ["[" * 100_000, "9" * 5000, "1e999", "NaN", "null", "[]", "{}", '""', "-1", "true", '"\\ud800"']
    contents = [parser.content[:n] for n in (0, 1, len(parser.content) // 2, len(parser.content) - 3)]
    contents += [text.encode() for text in odd]
    for key, value in list(whole.items())[:4]:
        places = [{**whole, key: "@"}]
        if isinstance(value, dict):
            places += [{**whole, key: {**value, inner: "@"}} for inner in list(value)[:3]]
        elif isinstance(value, list) and value:
            places += [{**whole, key: ["@", *value[1:]]}]
            places += (
                [{**whole, key: [{**value[0], k: "@"}, *value[1:]]} for k in value[0]]
                if isinstance(value[0], dict)
                else []
            )
        contents += [json.dumps(place).replace('"@"', text).encode() for place in places for text in odd]
    for content in dict.fromkeys(contents):
        check(parser, tmp_path / f"f{parser.suffix}", content)


def fuzz(parser: Parser, folder: Path, files: int) -> None:
    """Try so many different files. The same ones in every run, and others for every parser."""
    tried = set()

    @seed(parser.name)
    @settings(max_examples=2 * files, database=None, suppress_health_check=list(HealthCheck))
    @given(parser.inputs())
    def attempt(content: bytes) -> None:
        if content not in tried and len(tried) < files:
            check(parser, folder / f"f{parser.suffix}", content)
            tried.add(content)  # not before: one that fails must fail again

    attempt()
    assert len(tried) == files


def check(parser: Parser, path: Path, content: bytes) -> None:
    """A right result or a clear error, soon, and within memory."""
    path.write_bytes(content)
    result, complaint = None, None
    with cpu_seconds(20), traced() as peak:
        try:
            result = parser.read(path)
        except SnceError as error:
            complaint = str(error)
    if complaint is None:
        parser.right(result, content)
    else:
        assert str(path.parent) in complaint or complaint.startswith(OF_CONTENTS), complaint
        assert len(complaint) < 1000
        complaint.encode()
    assert peak.value < 2 * len(content) + CONSTANT
