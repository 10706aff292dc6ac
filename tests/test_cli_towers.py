"""The command line on a pipeline with several towers: from training to pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from snce.cli import main
from snce.erase.eraser import ConceptEraser
from snce.sae.formats import load_sae
from snce.text.towers import TextTower
from tests.pipelines.families import FAMILIES
from tests.studio import SMALL

PLACES = [
    "text_encoder.output.hidden_states[-2]",
    "text_encoder_2.output.hidden_states[-2]",
    "text_encoder_2.output.text_embeds",
]


@pytest.fixture(scope="module")
def made(studio, tmp_path_factory):
    """A folder with Stable Diffusion XL, an SAE for each of its towers, and an eraser."""
    folder = tmp_path_factory.mktemp("towers")
    FAMILIES["StableDiffusionXLPipeline"](0).save_pretrained(folder / "model")
    model, sae, eraser = (str(folder / name) for name in ("model", "saes", "gun.safetensors"))
    assert main(["train", model, "--prompts", str(studio.prompts), "--out", sae, *SMALL, "--steps", "20"]) == 0
    assert main(["find", model, "--sae", sae, "--concept", str(studio.concept), "--out", eraser]) == 0
    return folder


def test_every_tower_has_an_sae_and_a_part_of_the_eraser(made):
    assert sorted(path.parent.name for path in (made / "saes").glob("*/sae.safetensors")) == PLACES
    parts = ConceptEraser.load(made / "gun.safetensors").parts
    assert [part.place for part in parts] == PLACES
    assert all(part.concepts == ("gun",) and "gun" in part.card for part in parts)
    assert {path.name for path in made.glob("gun.*.png")} == {f"gun.{place}.png" for place in PLACES}
    card = (made / "gun.md").read_text()
    assert all(f"gun in {place}" in card for place in PLACES)


def test_pictures_are_drawn_with_it_and_the_file_is_shown(made, capsys):
    options = ["--steps", "2", "--prompt", "zzz red cat", "--eraser", str(made / "gun.safetensors")]
    assert main(["generate", str(made / "model"), *options, "--out", str(made / "after.png")]) == 0
    told = capsys.readouterr().out
    assert (made / "after.png").stat().st_size > 100
    assert len(re.findall("which neurons fired", told)) == 3
    assert main(["inspect", str(made / "gun.safetensors")]) == 0
    told = "".join(capsys.readouterr().out.split())
    assert all(place in told for place in PLACES)


def test_a_tower_without_an_sae_is_pointed_out(made, studio, tmp_path, capsys):
    alone = made / "saes" / PLACES[0]
    out = tmp_path / "part.safetensors"
    command = ["find", str(made / "model"), "--sae", str(alone), "--concept", str(studio.concept), "--out", str(out)]
    assert main(command) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert all(f"no SAE for {place}" in told for place in PLACES[1:])
    eraser = ConceptEraser.load(out)
    assert [part.place for part in eraser.parts] == PLACES[:1]
    command = ["generate", str(made / "model"), "--steps", "1", "--prompt", "a cat", "--eraser", str(out)]
    assert main([*command, "--out", str(tmp_path / "after.png")]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert told.count(f"no eraser for {', '.join(PLACES[1:])}: what it tells the denoiser is left as it is") == 1


def test_prompts_are_padded_as_far_as_the_pipeline_will_be_told_to(studio, tmp_path):
    FAMILIES["FluxPipeline"](0).save_pretrained(tmp_path / "model")
    model, sae, out = (str(tmp_path / name) for name in ("model", "saes", "gun.safetensors"))
    options = [*SMALL, "--steps", "10", "--max-sequence-length", "32"]
    assert main(["train", model, "--prompts", str(studio.prompts), "--out", sae, *options]) == 0
    assert main(["find", model, "--sae", sae, "--concept", str(studio.concept), "--out", out]) == 0
    stores = {np.load(path, mmap_mode="r").shape[1] for path in (tmp_path / "saes").rglob("embeddings.npy")}
    assert stores == {1, 32}  # CLIP's pooled embedding, T5's tokens
    part = ConceptEraser.load(out).parts[1]
    tower = TextTower.from_pipeline(FAMILIES["FluxPipeline"](0), part.place, max_sequence_length=32)
    assert tower.positions == 32
    assert part.card["gun"]["sae_training"]["max_sequence_length"] == 32


def test_a_tower_is_chosen_by_its_place(made):
    pipe = FAMILIES["StableDiffusionXLPipeline"](0)
    assert TextTower.from_pipeline(pipe, PLACES[2]).place == PLACES[2]
    with pytest.raises(ValueError, match="several towers"):
        TextTower.from_pipeline(pipe)
    with pytest.raises(ValueError, match="no tower 'text_encoder_9'"):
        TextTower.from_pipeline(pipe, "text_encoder_9")


def test_a_foreign_sae_is_brought_in_for_the_tower_that_is_named(made, studio, tmp_path, capsys):
    theirs, model = str(tmp_path / "theirs"), str(made / "model")
    assert main(["convert", str(made / "saes" / PLACES[1]), theirs, "--to", "saelens"]) == 0
    back = ["convert", theirs, str(tmp_path / "back"), "--to", "snce", "--model", model, "--prompts"]
    back.append(str(studio.prompts))
    for more, says in (
        ([], f"StableDiffusionXLPipeline has several towers: say which one the SAE reads, by --place and one of "
             f"{', '.join(PLACES)}"),
        (["--place", "text_encoder_9"], f"has no tower 'text_encoder_9'; it has {', '.join(PLACES)}"),
        (["--place", PLACES[0]], f"this SAE was trained on {PLACES[1]} of"),
    ):  # fmt: skip
        capsys.readouterr()
        assert main([*back, *more]) == 2
        assert says in capsys.readouterr().err
    assert main([*back, "--place", PLACES[1]]) == 0
    (_, before), (_, after) = load_sae(made / "saes" / PLACES[1]), load_sae(tmp_path / "back")
    assert (after.fingerprint, after.tower, after.module) == (before.fingerprint, before.tower, before.module)
    assert f"{after.tower}.{after.module}" == PLACES[1]
