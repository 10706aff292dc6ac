"""Concept files and prompt files: what was written is read, what is wrong is named."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snce.errors import SnceError
from snce.text.prompts import Concept, read_prompts

# what YAML can write: no surrogates
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)
prompt_lists = st.lists(texts, min_size=1, max_size=5).map(tuple)


@given(texts, prompt_lists, prompt_lists, st.none() | texts)
def test_a_concept_comes_back_from_its_file(tmp_path_factory, name, targets, neutrals, harmful):
    concept = Concept(name, targets, neutrals, harmful)
    path = tmp_path_factory.mktemp("concept") / "c.yaml"
    concept.save(path)
    assert Concept.load(path) == concept


def test_a_concept_file_without_a_name_is_named_after_the_file(tmp_path):
    path = tmp_path / "church.yaml"
    path.write_text("targets: [a church, '  ', ' an old church ']\nneutrals: [a barn]\n")
    concept = Concept.load(path)
    assert (concept.name, concept.targets, concept.harmful) == ("church", ("a church", "an old church"), None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("targets: [a church", "not valid YAML"),
        ("- a church", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("targets: [a church]\nneutrals: [a barn]\ncolour: red", "colour"),
        ("targets: a church\nneutrals: [a barn]", "'targets' must be a list"),
        ("targets: [1, 2]\nneutrals: [a barn]", "'targets' must be a list"),
        ("targets: [a church]\nneutrals: {a: barn}", "'neutrals' must be a list"),
        ("targets: [' ']\nneutrals: [a barn]", "no target prompts"),
        ("targets: [a church]", "no neutral prompts"),
        ("name: ' '\ntargets: [a church]\nneutrals: [a barn]", "needs a name"),
    ],
)
def test_a_wrong_concept_file_is_refused_with_the_reason(tmp_path, content, words):
    path = tmp_path / "church.yaml"
    path.write_text(content)
    with pytest.raises(SnceError, match=words):
        Concept.load(path)


def test_an_absent_or_binary_concept_file_is_named(tmp_path):
    with pytest.raises(SnceError, match=r"absent\.yaml"):
        Concept.load(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\xd8\x80")
    with pytest.raises(SnceError, match=r"binary\.yaml"):
        Concept.load(binary)


lines = st.lists(st.text(st.characters(categories=["L", "N", "P", "Zs"])), max_size=8)


@given(lines, st.sampled_from(("\n", "\r\n")))
def test_a_text_file_holds_one_prompt_a_line(tmp_path_factory, prompts, ending):
    path = tmp_path_factory.mktemp("prompts") / "p.txt"
    path.write_bytes(ending.join(prompts).encode())
    expected = [p.strip() for p in prompts if p.strip()]
    if expected:
        assert read_prompts(str(path)) == expected
    else:
        with pytest.raises(SnceError, match="no prompts"):
            read_prompts(str(path))


@given(lines.filter(lambda prompts: any(p.strip() for p in prompts)))
def test_a_csv_file_holds_them_in_the_named_column(tmp_path_factory, prompts):
    path = tmp_path_factory.mktemp("prompts") / "p.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "caption"), *enumerate(prompts)])
    assert read_prompts(f"{path}:caption") == [p.strip() for p in prompts if p.strip()]


@pytest.mark.parametrize("name", ["p.txt", "p.csv"])
def test_the_mark_that_spreadsheets_put_before_a_file_is_no_part_of_it(tmp_path, name):
    path = tmp_path / name
    path.write_bytes("\ufeffcaption\na church\n".encode())
    source = f"{path}:caption" if name.endswith("csv") else str(path)
    assert read_prompts(source)[-1] == "a church"
    assert not read_prompts(source)[0].startswith("\ufeff")


def test_wrong_prompt_files_are_refused_with_the_reason(tmp_path):
    table = tmp_path / "p.csv"
    table.write_text("id,caption\n1,a church\n")
    with pytest.raises(SnceError, match="id, caption"):
        read_prompts(f"{table}:prompt")
    with pytest.raises(SnceError, match="name the column"):
        read_prompts("p.csv")
    with pytest.raises(SnceError, match=r"absent\.txt"):
        read_prompts(str(tmp_path / "absent.txt"))
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\x00\x80")
    with pytest.raises(SnceError, match="not a UTF-8"):
        read_prompts(str(binary))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"caption\na church\na church, old\n", "line 3 has more columns than the first: .* in quotes"),
        (b"id,caption\n1,a church, old\n", "line 2 has more columns"),
        (b"id;caption\n1;a church\n", "no column 'caption'; it has id;caption"),
        (b"id\tcaption\n1\ta church\n", "no column 'caption'; it has id\tcaption"),
        (b"sep=,\nid,caption\n1,a church\n", "no column 'caption'; it has sep="),
        (b"caption,caption\na church,a barn\n", "2 columns 'caption'"),
        (b'id,caption\n1,"a church\n2,a barn\n', "line 3"),
        (b'id,caption\n1,"a" church\n', "line 2"),
        (b"id,caption\n", "no prompts"),
        (b"id,caption\n1\n2, \n", "no prompts"),
        (b"", "no column 'caption'; it has none"),
        ("caption\na café\n".encode("latin-1"), "not a UTF-8 text"),
        ("caption\na church\n".encode("utf-16"), "not a UTF-8 text"),
        ("caption\na church\n".encode("utf-16-le"), "no column 'caption'"),
        (b"caption\n" + b"x" * 1_000_001 + b"\n", "a line of more than 1000000 characters"),
    ],
)  # fmt: skip
def test_a_csv_file_of_another_kind_is_refused_with_the_reason(tmp_path, content, words):
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    with pytest.raises(SnceError, match=words):
        read_prompts(f"{path}:caption")


@pytest.mark.parametrize(
    "content",
    [
        b"id,caption\r\n1,a church\r\n2,a barn\r\n",
        b"id,caption\r1,a church\r2,a barn\r",
        b'"id","caption"\n"1","a church"\n\n"2"," a barn "',
        b"id,caption,\n1,a church,\n2,a barn,,\n",
        b"\xef\xbb\xbfcaption\na church\na barn\n",
    ],
)
def test_a_csv_file_of_any_program_is_read(tmp_path, content):
    path = tmp_path / "P.CSV"
    path.write_bytes(content)
    assert read_prompts(f"{path}:caption") == ["a church", "a barn"]
