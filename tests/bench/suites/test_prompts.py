"""The prompts of the suites, as files and data sets have them. All of these are harmless."""

from __future__ import annotations

import pytest

from snce.bench.suites.labels import IMAGENETTE, UNLEARNCANVAS_OBJECTS, UNLEARNCANVAS_STYLES, Labels, made_concept
from snce.bench.suites.prompts import load_prompts
from snce.errors import SnceError
from tests.bench.suites.tiny import PROMPTS, i2p_rows, without, write_csv


@pytest.fixture
def csv(tmp_path):
    return lambda rows: write_csv(tmp_path / "prompts.csv", rows)


def test_i2p_brings_prompts_with_their_seeds_and_guidance(csv):
    prompts = load_prompts("i2p", csv(i2p_rows())).prompts
    assert [p.text for p in prompts] == list(PROMPTS)
    assert [p.seed for p in prompts] == [50, 51, 52, 53, 54]  # the field's evaluation_seed goes before sd_seed
    assert [p.guidance for p in prompts] == [3.5, 7.0, 7.0, 3.5, 7.0]
    assert prompts[1].categories == "sexual, shocking"


def test_sd_seed_serves_where_it_is_the_only_seed_and_keeps_all_its_digits(csv):
    rows = [{"prompt": "tea", "sd_seed": s} for s in ("9007199254740993", "12.0", "0")]
    assert [p.seed for p in load_prompts("i2p", csv(rows)).prompts] == [9007199254740993, 12, 0]


def test_a_category_and_a_limit_select(csv):
    source = csv(i2p_rows())
    assert [p.seed for p in load_prompts("i2p", source, category="Sexual").prompts] == [51, 53]
    assert [p.seed for p in load_prompts("i2p", source, limit=2).prompts] == [50, 51]


def test_captions_without_a_seed_get_the_number_of_their_row(csv):
    prompts = load_prompts("coco", csv([{"caption": "a hat"}, {"caption": " "}, {"caption": "a tea"}])).prompts
    assert [(p.text, p.seed, p.guidance) for p in prompts] == [("a hat", 0, None), ("a tea", 2, None)]


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xef\xbb\xbfcaption,seed\na hat,3\n")
    assert load_prompts("coco", str(path)).prompts[0].seed == 3


def test_a_folder_is_a_data_set_of_which_the_first_caption_counts(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"image": [0, 1], "caption": [["a hat", "hats"], ["tea"]], "seed": [4, 5]})
    data.to_parquet(tmp_path / "data" / "train.parquet")
    prompts = load_prompts("coco", str(tmp_path / "data")).prompts
    assert [(p.text, p.seed) for p in prompts] == [("a hat", 4), ("tea", 5)]


def test_imagenette_is_made_of_its_ten_classes_all_of_them_soon():
    found = load_prompts("imagenette", seeds=3)
    assert [p.object for p in found.prompts[:10]] == list(IMAGENETTE) == list(found.labels.objects)
    assert [p.seed for p in found.prompts[::10]] == [0, 1, 2]
    assert found.prompts[1].text == "a photo of an English springer"
    assert len(load_prompts("imagenette").prompts) == 5000


def test_unlearncanvas_is_every_object_in_every_style_with_its_five_seeds():
    found = load_prompts("unlearncanvas-style")
    assert (len(UNLEARNCANVAS_STYLES), len(UNLEARNCANVAS_OBJECTS)) == (50, 20)
    assert len({(p.object, p.style, p.seed) for p in found.prompts}) == 50 * 20 * 5
    assert found.prompts[0].text == "A Architectures image in Abstractionism style."
    assert {p.seed for p in found.prompts} == {188, 288, 588, 688, 888}
    assert {p.seed for p in load_prompts("unlearncanvas-style", seeds=2).prompts} == {188, 288}


def test_classes_of_a_file_take_the_suites_spelling_and_its_other_classes_stay_possible(csv):
    found = load_prompts("imagenette", csv([{"class": "french horn", "seed": 1}, {"class": "Golf_Ball", "seed": 2}]))
    assert [p.object for p in found.prompts] == ["French horn", "golf ball"]
    assert [p.text for p in found.prompts] == ["a photo of a French horn", "a photo of a golf ball"]
    assert set(found.labels.objects) == set(IMAGENETTE)


def test_other_classes_than_the_suites_are_those_of_the_whole_file(csv):
    rows = [{"object": o, "style": "Van_Gogh", "prompt": f"a {o}"} for o in ("cat", "dog")]
    found = load_prompts("unlearncanvas-style", csv(rows), limit=1)
    assert found.labels.objects == ("cat", "dog")
    assert set(found.labels.styles) == set(UNLEARNCANVAS_STYLES)
    assert [p.text for p in found.prompts] == ["a cat"]


def test_a_prompt_is_about_the_concept_that_it_names():
    found = load_prompts("unlearncanvas-style", seeds=1).about("unlearncanvas-style", ["Van Gogh", "Cats"])
    kinds = {(p.object, p.style): (p.kind, p.concept) for p in found.prompts}
    assert kinds["Dogs", "Van Gogh"] == ("direct", "Van Gogh")
    assert kinds["Cats", "Monet"] == ("direct", "Cats")
    assert kinds["Dogs", "Monet"] == ("other", "")
    assert sum(kind == "direct" for kind, _ in kinds.values()) == 20 + 50 - 1


def test_all_prompts_of_i2p_are_about_what_is_erased(csv):
    found = load_prompts("i2p", csv(i2p_rows())).about("i2p", ["gun"])
    assert {(p.kind, p.concept) for p in found.prompts} == {("i2p", "gun")}


@pytest.mark.parametrize(
    ("name", "labels"),
    [("church", Labels(IMAGENETTE)), ("Van Gogh", Labels(UNLEARNCANVAS_OBJECTS, UNLEARNCANVAS_STYLES)),
     ("Cats", Labels(UNLEARNCANVAS_OBJECTS, UNLEARNCANVAS_STYLES))],
)  # fmt: skip
def test_a_made_concept_names_its_class_in_all_targets_and_in_no_neutral(name, labels):
    concept = made_concept(name, labels)
    assert all(name in p for p in concept.targets)
    assert not any(name in p for p in concept.neutrals)
    assert min(len(concept.targets), len(concept.neutrals)) >= 12
    asked = {p.text for s in ("imagenette", "unlearncanvas-style") for p in load_prompts(s, seeds=1).prompts}
    assert asked.isdisjoint(concept.targets + concept.neutrals)  # judged by other words than fitted on


@pytest.mark.parametrize(
    ("suite", "content", "complaint"),
    [
        ("i2p", b"text,seed\n", "no prompts"),
        ("i2p", b"", "no prompts"),
        ("i2p", b"title,seed\nx,1\n", "no column prompt or caption or text"),
        ("i2p", b"prompt\nx\n", "no column evaluation_seed or sd_seed or seed"),
        ("i2p", b"prompt,seed\nx,\n", "row 1 has no seed"),
        ("i2p", b"prompt,seed\nx,many\n", "row 1: seed 'many' is not a number"),
        ("i2p", b"prompt,seed\nx,1.5\n", "must be a whole number"),
        ("i2p", b"prompt,seed\nx,-1\n", "must be a whole number"),
        ("i2p", b"prompt,seed,guidance\nx,1,inf\n", "guidance 'inf' is not a number"),
        ("i2p", b"prompt,seed\nx,1\ny\n", "line 3: not as many fields"),
        ("i2p", b"prompt,seed\nx,1,2\n", "line 2: not as many fields"),
        ("i2p", b'prompt,seed\n"x,1\ny,2\n', "damaged"),
        ("i2p", b"prompt,seed\n\xff\xfe,1\n", "not a UTF-8 CSV"),
        ("coco", b'caption\n"a hat\ntea\n', "damaged"),
        ("coco", b"\x00\x01\x02\x03", "no column|damaged"),
        ("imagenette", b"prompt,seed\nx,1\n", "no column object or class or label"),
        ("imagenette", b"prompt,class\nx,\n", "row 1 has no class"),
        ("unlearncanvas-style", b"prompt,object\nx,y\n", "no column style or theme"),
    ],
)
def test_a_damaged_file_is_one_clear_line(suite, content, complaint, tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_bytes(content)
    with pytest.raises(SnceError, match=complaint) as caught:
        load_prompts(suite, str(path))
    assert "\n" not in str(caught.value)
    assert "prompts.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("suite", "head", "long", "complaint"),
    [
        ("coco", "caption\n", "x" * 1_000_000, "a line of more than 1000000 characters"),
        ("coco", "caption\n", '"' + "x\n" * 70_000, "damaged: field larger than field limit"),
        ("coco", "caption", ",x" * 500_000, "a line of more than 1000000 characters"),
        (
            "coco",
            "title",
            "".join(f",column {i}" for i in range(400)) + "\ny" + ",z" * 400,
            "no column prompt or caption or text",
        ),
        ("i2p", "prompt,seed\nx,", "9" * 5000, "row 1: seed '99999.* is not a number"),
    ],
    ids=["line", "field", "header", "columns", "number"],
)
def test_what_is_endless_is_one_clear_line(suite, head, long, complaint, tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text(head + long + "\n")
    with pytest.raises(SnceError, match=complaint) as caught:
        load_prompts(suite, str(path))
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_what_is_not_there_is_named(tmp_path, csv):
    with pytest.raises(SnceError, match=r"cannot read prompt file .*none\.csv: No such file"):
        load_prompts("i2p", str(tmp_path / "none.csv"))
    with pytest.raises(SnceError, match="no column categories"):
        load_prompts("coco", csv([{"caption": "a hat"}]), category="sexual")
    with pytest.raises(SnceError, match="no prompts of category 'gore'"):
        load_prompts("i2p", csv(i2p_rows()), category="gore")
    with pytest.raises(SnceError, match="UnlearnCanvas has 5"):
        load_prompts("unlearncanvas-style", seeds=6)
    with pytest.raises(SnceError, match="--seeds 6 is for prompts that a suite makes"):
        load_prompts("i2p", csv(i2p_rows()), seeds=6)


def test_a_data_set_that_is_not_there_is_one_clear_line(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SnceError, match="cannot read the data set") as caught:
        load_prompts("coco", str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)


def test_a_data_set_without_its_library_names_the_extra(monkeypatch):
    without(monkeypatch, "datasets")
    with pytest.raises(SnceError, match=r"'AIML-TUDA/i2p' need the library datasets: pip install 'snce\[suites\]'"):
        load_prompts("i2p")
