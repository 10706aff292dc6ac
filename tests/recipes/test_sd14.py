"""recipes/sd14 from beginning to end on a tiny pipeline, with harmless categories in the place of I2P's."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest
from recipes.sd14 import prompts as sd14_prompts
from recipes.sd14 import record
from recipes.sd14.config import CATEGORIES

from snce.bench.suites import judges
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.sae.formats import load_sae
from snce.text.prompts import Concept, read_prompts
from tests.bench.suites.tiny import write_csv
from tests.recipes.kit import BOATS, CAPTIONS, WEATHER, i2p_rows

pytest.importorskip("pyarrow")
pytest.importorskip("torchmetrics")
pytest.importorskip("nudenet")

README = Path(__file__).parents[2] / "recipes" / "sd14" / "README.md"


@pytest.fixture(scope="module")
def cooked(kit, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cooked")
    assert kit.cook("all", out) == 0
    return out


def column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def files(folder: Path) -> dict[str, int]:
    """What is there, and when it was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_every_step_leaves_what_it_says(cooked):
    sae, origin = load_sae(cooked / "sae")
    assert (sae.config.latents, sae.config.k) == (48, 8)
    for name in ("boats", "weather"):
        eraser = ConceptEraser.load(cooked / "erasers" / f"{name}.safetensors")
        assert eraser.concepts == (name,)
        assert eraser.fingerprint == origin.fingerprint
        assert (cooked / "erasers" / f"{name}.md").is_file()
        assert (cooked / "erasers" / f"{name}.png").is_file()
    evaluation = cooked / "evaluation" / "boats+weather"
    assert set(ConceptEraser.load(evaluation / "eraser.safetensors").concepts) == {"boats", "weather"}
    for suite, measure in (("i2p", "NudeNet: pictures"), ("coco", "CLIP score")):
        methods = json.loads((evaluation / f"{suite}-6" / "summary.json").read_text())["methods"]
        assert set(methods) == {"none", "SNCE"}
        assert all(told["complete"] and told["pictures"] == 6 for told in methods.values())
        assert all(measure in told["figures"] for told in methods.values())


def test_what_is_evaluated_on_has_chosen_nothing(cooked):
    evaluation = cooked / "evaluation" / "boats+weather"
    judged = {*column(evaluation / "i2p.csv", "prompt"), *column(evaluation / "coco.csv", "caption")}
    used = set(column(cooked / "training.csv", "prompt"))
    for path in (cooked / "concepts").iterdir():
        concept = Concept.load(path)
        assert not set(concept.targets) & set(concept.neutrals)
        used |= {*concept.targets, *concept.neutrals}
    assert judged
    assert not judged & used
    assert judged | used == {*CAPTIONS, *BOATS, *WEATHER, "zzz qqq storm"}


def test_a_concept_has_its_category_as_targets_and_captions_and_others_as_neutrals(cooked):
    boats = Concept.load(cooked / "concepts" / "boats.yaml")
    assert all("zzz" in text for text in boats.targets)
    assert boats.harmful == "boats"
    assert set(boats.neutrals) & set(CAPTIONS)
    assert set(boats.neutrals) & set(WEATHER)
    assert all("zzz" not in text for text in boats.neutrals)


def test_the_other_half_keeps_seed_guidance_and_categories_of_each_row(cooked):
    path = cooked / "evaluation" / "boats+weather" / "i2p.csv"
    published = {(row["prompt"], row["categories"], str(row["sd_seed"])): row for row in i2p_rows()}
    told = list(zip(*(column(path, name) for name in ("prompt", "categories", "sd_seed")), strict=True))
    assert len(set(told)) == len(told)
    guidance = column(path, "sd_guidance_scale")
    assert [float(published[row]["sd_guidance_scale"]) for row in told] == [float(g) for g in guidance]


def test_the_table_counts_the_prompts_on_which_an_eraser_fires(cooked, kit):
    from snce.pipelines import load_pipeline
    from snce.text.towers import TextTower

    folder = cooked / "evaluation" / "boats+weather"
    tower = TextTower.from_pipeline(load_pipeline(kit.model))
    table = (folder / "caught.md").read_text()
    texts = sorted(set(column(folder / "i2p.csv", "prompt")))
    for name, mark in (("boats", "zzz"), ("weather", "qqq")):
        eraser = ConceptEraser.load(cooked / "erasers" / f"{name}.safetensors")
        cells = []
        for group in ([t for t in texts if mark in t], [t for t in texts if mark not in t],
                      column(folder / "coco.csv", "caption")):  # fmt: skip
            fired = sum(bool(eraser.activations([text], tower)[0, 0] > eraser.neurons.threshold[0]) for text in group)
            cells.append(f"{100 * fired / len(group):.1f} % of {len(group)}")
        assert f"| {name} | {' | '.join(cells)} |" in table


def test_a_finished_step_is_not_made_again(cooked, kit, capsys):
    before = files(cooked)
    assert kit.cook("all", cooked) == 0
    assert files(cooked) == before
    assert "snce train" not in (printed := capsys.readouterr().out)
    assert printed.count("finished before") == 1 + 2 + 4


def test_an_interrupted_run_goes_on(cooked, kit, tmp_path, monkeypatch, capsys):
    """Interrupted in the middle of a suite: what it had drawn is kept, and the figures are those of a run in one go."""
    original, looks = judges.Panel.look, []

    def interrupted(self, images, prompts):
        looks.append(prompts)
        if len(looks) == 2:
            raise KeyboardInterrupt
        return original(self, images, prompts)

    with monkeypatch.context() as patch:
        patch.setattr(judges.Panel, "look", interrupted)
        with pytest.raises(SystemExit) as stopped:
            kit.cook("all", tmp_path)
    assert stopped.value.code == 130
    # a suite goes on part by part: the pictures of the one that it was at are drawn again
    there = {name: time for name, time in files(tmp_path).items() if "pictures/SNCE" not in name}
    assert any("pictures/none" in name for name in there)
    capsys.readouterr()
    assert kit.cook("all", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "snce train" not in printed
    assert "snce find" not in printed
    assert there.items() <= files(tmp_path).items()
    for suite in ("i2p", "coco"):
        whole, again = (json.loads((out / "evaluation" / "boats+weather" / f"{suite}-6" / "summary.json").read_text())
                        for out in (cooked, tmp_path))  # fmt: skip
        for name in ("none", "SNCE"):
            figures = again["methods"][name]["figures"]
            assert figures
            for measure, figure in whole["methods"][name]["figures"].items():
                assert figures[measure] == pytest.approx(figure, nan_ok=True)


def test_a_category_alone_is_evaluated_beside_all(cooked, kit):
    assert kit.cook("evaluate", cooked, "--categories", "Boats") == 0
    assert (cooked / "evaluation" / "boats" / "coco-6" / "table.md").is_file()


def test_a_trial_does_not_stand_in_the_way_of_the_whole(cooked, kit, capsys):
    kit.cook("evaluate", cooked)
    capsys.readouterr()
    assert kit.cook("evaluate", cooked, "--limit", "2") == 0
    assert capsys.readouterr().out.count("finished before") == 2  # what does not depend on pictures
    for limit in (2, 6):
        summary = cooked / "evaluation" / "boats+weather" / f"i2p-{limit}" / "summary.json"
        assert json.loads(summary.read_text())["methods"]["SNCE"]["pictures"] == limit


def test_what_was_made_from_something_else_is_not_taken_for_finished(cooked, kit, capsys):
    assert kit.cook("train", cooked, "--latents", "64") == 2
    assert "made from another latents" in " ".join(capsys.readouterr().err.split())
    assert kit.cook("find", cooked, "--neutrals", "20") == 2
    assert "boats.safetensors was made from another prompts" in " ".join(capsys.readouterr().err.split())


def test_a_damaged_record_is_named(tmp_path):
    product, made = tmp_path / "product", []
    record.once(tmp_path, "step", {"a": 1}, product, lambda: product.touch())
    record.once(tmp_path, "step", {"a": 1}, product, lambda: made.append(1))
    (tmp_path / "done" / "step.json").write_text("{")
    with pytest.raises(SnceError, match=r"step\.json is damaged: delete it"):
        record.once(tmp_path, "step", {"a": 1}, product, lambda: made.append(2))
    assert not made


def test_what_is_gone_is_made_again(tmp_path):
    product, made = tmp_path / "product", []
    for _ in range(2):
        record.once(tmp_path, "step", {}, product, lambda: (made.append(1), product.touch()))
        product.unlink()
    assert len(made) == 2


def test_captions_alone_are_trained_on_when_asked(kit, tmp_path):
    assert kit.cook("train", tmp_path, "--captions-only", "--steps", "2") == 0
    assert set(read_prompts(f"{tmp_path / 'training.csv'}:prompt")) <= set(CAPTIONS)


def test_the_split_depends_on_the_prompt_alone(tmp_path):
    texts = [f"prompt {i}" for i in range(2000)]
    whole = sd14_prompts.split_captions(write_csv(tmp_path / "a.csv", [{"c": t} for t in texts]) + ":c")
    part = sd14_prompts.split_captions(write_csv(tmp_path / "b.csv", [{"c": t} for t in texts[500:][::-1]]) + ":c")
    assert set(part.evaluation) == set(whole.evaluation) & set(texts[500:])
    assert sorted(whole.training + whole.evaluation) == sorted(texts)
    assert len(whole.evaluation) == pytest.approx(200, abs=50)
    assert sd14_prompts.place("A  Boat ") == sd14_prompts.place("a boat")


def test_the_categories_are_those_of_i2p():
    assert len(CATEGORIES) == 7
    assert all(name in README.read_text(encoding="utf-8") for name in CATEGORIES)


def test_the_commands_of_the_readme_are_understood():
    import tyro
    from recipes.sd14.config import Recipe

    commands = [line for line in README.read_text(encoding="utf-8").splitlines() if "-m recipes.sd14" in line]
    assert len(commands) >= 4
    for command in commands:
        words = shlex.split(command.split("#")[0])
        tyro.cli(Recipe, args=words[words.index("recipes.sd14") + 1 :], config=(tyro.conf.FlagCreatePairsOff,)).check()
