"""`snce find` for several concepts in one run: the erasers of runs of their own, and a failure takes none along."""

from __future__ import annotations

import pytest
import yaml

from snce.cli import main
from snce.commands.concept_files import concepts_named
from snce.commands.find import read_concepts
from snce.errors import SnceError
from tests.studio import NEUTRALS, TARGETS, find

DOGS = [p for p in NEUTRALS if "dog" in p]
OTHERS = [p for p in NEUTRALS if "dog" not in p]


@pytest.fixture
def folder(tmp_path):
    """Concept files: two share their neutral prompts, and another's lie between them by name."""
    folder = tmp_path / "concepts"
    folder.mkdir()
    for name, targets, neutrals in (
        ("a gun", TARGETS, NEUTRALS), ("dog", DOGS, OTHERS), ("red gun", TARGETS[:4], NEUTRALS)
    ):  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"targets": targets, "neutrals": neutrals}))
    return folder


def one_error(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_each_concept_gets_the_very_eraser_of_a_run_of_its_own(studio, folder, tmp_path, capsys):
    out = tmp_path / "erasers"
    assert main(find(studio, out, concept=str(folder))) == 0
    assert "3 of 3 erasers written" in capsys.readouterr().out
    for name in ("a gun", "dog", "red gun"):
        alone = tmp_path / f"{name.replace(' ', '-')}.safetensors"
        assert main(find(studio, alone, concept=str(folder / f"{name}.yaml"))) == 0
        assert (out / alone.name).read_bytes() == alone.read_bytes()
        assert (out / alone.with_suffix(".md").name).read_text() == alone.with_suffix(".md").read_text()
        assert (out / alone.with_suffix(".png").name).is_file()
    assert len(list(out.iterdir())) == 9


def test_neutral_prompts_that_concepts_share_are_read_once(studio, folder, tmp_path, monkeypatch):
    from snce.text import harvest as module

    read = []
    original = module.harvest
    monkeypatch.setattr(module, "harvest", lambda tower, texts: (read.append(tuple(texts)), original(tower, texts))[1])
    assert main(find(studio, tmp_path / "erasers", concept=str(folder))) == 0
    assert read.count(tuple(NEUTRALS)) == 1
    assert len(read) == 5


def test_what_fails_is_named_and_the_others_are_written(studio, folder, tmp_path, capsys):
    (folder / "cat.yaml").write_text("targets: [a cat]\nneutrals: [a hat, a dog]\n")
    (folder / "hat.yaml").write_text("{")
    out = tmp_path / "erasers"
    assert main(find(studio, out, concept=str(folder))) == 2
    error = one_error(capsys)
    assert "2 of 5 concepts failed" in error
    assert "cat.yaml: concept 'cat' has one prompt" in error
    assert "hat.yaml is not valid YAML" in error
    assert sorted(path.name for path in out.glob("*.safetensors")) == [
        "a-gun.safetensors", "dog.safetensors", "red-gun.safetensors",
    ]  # fmt: skip


def test_a_search_that_fails_does_not_stop_the_ones_after_it(studio, folder, tmp_path, capsys, monkeypatch):
    from snce.commands.search import Search

    def find_or_fail(self, concept):
        if concept.name == "a gun":
            raise SnceError("no neuron fires")
        return original(self, concept)

    original = Search.find
    monkeypatch.setattr(Search, "find", find_or_fail)
    out = tmp_path / "erasers"
    assert main(find(studio, out, concept=str(folder))) == 2
    assert one_error(capsys).endswith("1 of 3 concepts failed: a gun: no neuron fires")
    assert sorted(path.stem for path in out.glob("*.safetensors")) == ["dog", "red-gun"]


def test_where_no_concept_can_be_read_no_model_is_loaded(folder, tmp_path, capsys):
    arguments = ["find", "no-such-model", "--sae", "none", "--concept", "nothing,nil", "--out", str(tmp_path / "e")]
    assert main(arguments) == 2
    assert "2 of 2 concepts failed: nothing: no bundled concept 'nothing'" in one_error(capsys)


def test_several_concepts_want_a_folder_and_one_concept_a_file(studio, folder, tmp_path, capsys):
    assert main(find(studio, tmp_path / "e.safetensors", concept=str(folder))) == 2
    assert "several concepts want a folder" in one_error(capsys)
    assert main(find(studio, tmp_path, concept=str(folder / "dog.yaml"))) == 2
    assert "it is a folder" in one_error(capsys)
    (tmp_path / "empty").mkdir()
    assert main(find(studio, tmp_path / "out", concept=str(tmp_path / "empty"))) == 2
    assert "no concept file (.yaml) in the folder" in one_error(capsys)


def test_what_the_option_may_be_given(folder):
    files = tuple(str(folder / f"{name}.yaml") for name in ("a gun", "dog", "red gun"))
    assert concepts_named(["bomb"]) == (("bomb",), False)
    assert concepts_named(["bomb, kitchen knife", "axe"]) == (("bomb", "kitchen knife", "axe"), True)
    assert concepts_named([str(folder), "bomb"]) == ((*files, "bomb"), True)
    comma = folder / "a, b.yaml"
    comma.write_text("")
    assert concepts_named([str(comma)]) == ((str(comma),), False)
    for given, says in ((["bomb,bomb"], "given twice"), ([" , "], "no concept to find"), ([""], "no concept to find")):
        with pytest.raises(SnceError, match=says):
            concepts_named(given)


def test_a_folder_of_one_file_is_a_folder(folder):
    for name in ("dog", "red gun"):
        (folder / f"{name}.yaml").unlink()
    assert concepts_named([str(folder)]).several


def test_concepts_that_would_share_a_file_are_refused(folder, tmp_path):
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"name": "A Gun", "targets": TARGETS, "neutrals": NEUTRALS}))
    with pytest.raises(SnceError, match=r"would both be written to a-gun\.safetensors"):
        read_concepts([str(folder / "a gun.yaml"), str(tmp_path / "more.yaml")])
