"""docs/pipelines: every page runs from top to bottom, on a small pipeline of each class that it is about, with random
weights; and the table of the index is what the code has."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from benchmarks.document_pipelines import LEFT_ALONE, PAGE, TEMPLATES, table

from snce.erase.eraser import ConceptEraser
from snce.text.families import FAMILIES as TABLE
from snce.text.towers import TextTower
from tests.docs.pages import DOCS, SIZES, read, run, write_prompts
from tests.examples import same_bits
from tests.pipelines.families import CALLS, FAMILIES
from tests.pipelines.hook_points import FAMILY_FACTS
from tests.pipelines.test_erasing import towers_of
from tests.studio import NEUTRALS, TARGETS

PAGES = {
    "stable-diffusion.md": ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3"),
    "flux.md": ("Flux", "Flux2", "Flux2Klein"),
    "t5-pipelines.md": ("PixArtAlpha", "PixArtSigma"),
    "language-models.md": ("Sana", "QwenImage", "ZImage"),
    "audio-and-video.md": ("AudioLDM2", "CogVideoX", "Wan"),
}
RUNS = [(page, family) for page, families in PAGES.items() for family in families]
# each command with one family of a page; PixArt's sizes are binned, from 256 pixels on, which takes long
PARSED = {family: ("train", "find", "generate") for _, family in RUNS}
PARSED |= {"StableDiffusionXL": (), "Flux": (), "PixArtSigma": ("generate",), "QwenImage": (), "AudioLDM2": ()}
every_family = pytest.mark.parametrize("family", TABLE)


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A page that has been run with a family's small pipeline, in an empty folder with prompts: its names."""

    def run_page(page: str, family: str, only_parse: tuple[str, ...]):
        name = f"{family}Pipeline"
        FAMILIES[name](0).save_pretrained(tmp_path / "model")
        monkeypatch.chdir(tmp_path)
        write_prompts(tmp_path)
        text = (DOCS / "pipelines" / page).read_text(encoding="utf-8")
        model, options = re.search(r"snce train (\S+)", text)[1], re.search(r"^options = .*$", text, re.MULTILINE)[0]
        changes = SIZES | {model: "model", options: "options = CALLS"}
        if family in ("CogVideoX", "Wan"):
            changes[".audios[0]"] = ".frames[0]"
        call = {"num_inference_steps": 1} | CALLS[name]
        return run(read(f"pipelines/{page}", changes), {"CALLS": call}, only_parse)

    return run_page


def is_loud(eraser, pipe, prompt: str) -> bool:
    heights = [(part.activations([prompt], TextTower.from_pipeline(pipe, part.place)), part) for part in eraser.parts]
    return any(bool((height > part.neurons.threshold).any()) for height, part in heights)


@pytest.mark.parametrize(("page", "family"), RUNS)
def test_a_page_runs_and_its_eraser_changes_what_it_fires_on_and_nothing_else(ran, page, family):
    names = ran(page, family, PARSED[family])
    eraser, pipe, draw = names["eraser"], names["pipe"], names.get("draw") or names["make"]
    places = sorted(tower.place for tower in TextTower.all_of(pipe))
    assert [part.place for part in eraser.parts] == places
    assert [part.place for part in ConceptEraser.load("church.safetensors").parts] == places  # by `snce find`
    loud = {prompt: is_loud(eraser, pipe, prompt) for prompt in (*TARGETS[:2], NEUTRALS[0], "a church on a hill")}
    changed = {}
    for prompt in loud:
        before = np.asarray(draw(prompt))
        with eraser.attach(pipe):
            changed[prompt] = before.tobytes() != np.asarray(draw(prompt)).tobytes()
    assert any(changed.values())
    assert not [prompt for prompt in loud if changed[prompt] and not loud[prompt]]


def test_raw_embeddings_of_sdxl_are_edited_as_the_page_says(ran):
    names = ran("stable-diffusion.md", "StableDiffusionXL", ("train", "find", "generate"))
    pipe, eraser = names["pipe"], names["eraser"]
    plain, _, plain_pooled, _ = pipe.encode_prompt(TARGETS[0])
    with eraser.attach(pipe):
        expected, _, pooled, _ = pipe.encode_prompt(TARGETS[0])
    for mine, its in zip(names["edited"](plain, plain_pooled), (expected, pooled), strict=True):
        assert same_bits(mine, its)
    assert not same_bits(plain, expected)


def test_every_family_is_on_a_page_and_every_page_is_run():
    assert {family for _, family in RUNS} == TABLE.keys()
    assert {path.name for path in (DOCS / "pipelines").glob("*.md")} == {*PAGES, "README.md"}


def test_the_table_is_what_the_code_has():
    begin, end = "<!-- pipelines:begin -->\n", "\n<!-- pipelines:end -->"
    there = PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    assert there == table(), "run: python -m benchmarks.document_pipelines"


@cache
def towers(family: str) -> tuple[TextTower, ...]:
    return towers_of(FAMILIES[f"{family}Pipeline"](0))


@every_family
def test_the_table_has_the_places_and_the_parts_of_the_towers(family):
    cells = next(line for line in table().splitlines() if line.startswith(f"| `{family}Pipeline`")).split(" | ")
    assert cells[1].replace("`", "").split("<br>") == [tower.place for tower in towers(family)]
    assert int(cells[2]) == len(towers(family))


@every_family
def test_the_table_says_what_an_eraser_makes_of_padding(family):
    read = FAMILY_FACTS[f"{family}Pipeline"].padding == "read"
    for tower in towers(family):
        tokens = tower.tokenize(["a", "a red cat"])
        content = tower.content(tokens)
        if tower.encode_tokens(tokens).shape[1] > 1:  # one vector for the prompt has no padding
            assert (content is None or bool(content.all())) == (read and family not in LEFT_ALONE)


@every_family
def test_the_table_says_what_stands_before_a_prompt(family):
    begins = [tower.begin for tower in towers(family)]
    if "chat" in TEMPLATES[family] or "instruction" in TEMPLATES[family]:
        assert min(begins) > 1
    else:
        assert set(begins) <= {0, 1}
        assert ("begin-of-text" in TEMPLATES[family]) == (1 in begins)
