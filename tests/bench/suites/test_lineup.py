"""Which methods are run, and from what they are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snce.bench.lineup import METHODS
from snce.bench.methods.neurons import SNCE, PaperSNCE
from snce.bench.methods.uce import UCE
from snce.bench.suites.config import SuiteConfig
from snce.bench.suites.lineup import ENTRIES, GivenEraser, Studio, chosen_methods, fitting, inputs_of
from snce.bench.suites.prepare import prepare
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.pipelines import load_pipeline
from snce.sae.config import SAEConfig
from snce.sae.formats import load_sae, save_sae
from snce.text.fingerprint import weights_fingerprint
from snce.text.prompts import Concept
from tests.bench.suites.tiny import NAMES
from tests.examples import random_sae

CONCEPT = Concept("gun", ("a gun",), ("a cat",))
CONFIG = SuiteConfig("i2p")
WITHOUT_SAE = ["none", "negative prompt", "SLD medium", "SLD strong", "SLD max", "SAFREE", "UCE",
               "UCE (all tokens)", "RECE", "ESD-x", "concept ablation", "SPM", "LEACE"]  # fmt: skip


def test_all_are_those_that_can_be_made_and_the_others_are_told():
    names, notes = chosen_methods(CONFIG, [CONCEPT])
    assert names == WITHOUT_SAE
    assert notes == ["Concept Steerers is left out: it needs --position-sae",
                     "ItD is left out: it needs --position-sae",
                     "SAeUron is left out: it needs --unet-sae",
                     "SNCE as in the paper is left out: it needs --position-sae",
                     "SNCE is left out: it needs --eraser or --sae",
                     *(f"SNCE ({n} neurons) is left out: it needs --sae" for n in (2, 4, 8))]  # fmt: skip
    saes = {"sae": Path("x"), "position_sae": Path("y"), "unet_sae": Path("z")}
    names, notes = chosen_methods(replace(CONFIG, **saes), [CONCEPT])
    assert (names, notes) == (list(ENTRIES), [])


def test_the_methods_are_those_of_the_precision_suite():
    assert list(ENTRIES) == list(METHODS)


def test_an_eraser_alone_is_compared_with_the_base_model_alone():
    names, _ = chosen_methods(replace(CONFIG, eraser="x"), [])
    assert names == ["none", "SNCE"]


def test_the_base_model_is_always_there_and_comes_first():
    assert chosen_methods(replace(CONFIG, methods="UCE, SLD max"), [CONCEPT])[0] == ["none", "UCE", "SLD max"]


@pytest.mark.parametrize(
    ("options", "concepts", "complaint"),
    [
        ({"methods": "SNCE"}, [CONCEPT], "SNCE needs --eraser or --sae"),
        ({"methods": "UCE, SAeUron"}, [CONCEPT], "SAeUron needs --unet-sae"),
        ({"methods": "SNCE", "sae": Path("x")}, [], "SNCE needs a concept's prompts"),
        ({"methods": "magic"}, [CONCEPT], "unknown method 'magic'; there are: 'none', 'negative prompt'"),
        ({"methods": " , "}, [CONCEPT], "no method is named; there are: 'none', 'negative prompt'"),
    ],
)
def test_what_cannot_be_made_is_refused(options, concepts, complaint):
    with pytest.raises(SnceError, match=complaint):
        chosen_methods(replace(CONFIG, **options), concepts)


def test_settings_are_the_published_ones():
    """For Stable Diffusion 1.x: the numbers are those of the papers or their code."""
    made = Studio(None, CONFIG, None).made(WITHOUT_SAE)
    assert (made["ESD-x"].steps, made["ESD-x"].lr, made["ESD-x"].guidance) == (1000, 1e-5, 3.0)
    assert (made["SPM"].steps, made["SPM"].anchoring) == (3000, 1000.0)
    assert (made["SLD medium"].warmup, made["SLD strong"].warmup, made["SLD max"].warmup) == (10, 7, 0)
    assert (made["SLD medium"].scale, made["SLD strong"].scale, made["SLD max"].scale) == (1000, 2000, 5000)
    assert (made["UCE"].erase_weight, made["RECE"].epochs) == (1.0, 3)
    assert made["SAFREE"].limit == 10
    assert made["UCE"] == UCE(erase_weight=1.0, preserve=0, tokens="last")
    assert made["UCE (all tokens)"] == made["RECE"].uce == UCE(erase_weight=1.0, preserve=0, tokens="all")
    assert made["RECE"].closeness == 0.1


def test_settings_that_hang_on_the_kind_of_concept_or_the_length_of_the_schedule(studio, position_sae):
    pipe, config = load_pipeline(studio.model), replace(CONFIG, position_sae=position_sae)
    assert Studio(pipe, config, None, others=("cat",)).made(["RECE"])["RECE"].closeness == 1e-3
    objects, styles = (Studio(pipe, config, None, styles=s).made(["ItD"])["ItD"] for s in (False, True))
    assert (objects.factor, objects.top) == (-8, 128)
    assert (styles.factor, styles.top) == (-6, 256)
    made = Studio(pipe, config, None, steps=100).made(["SLD medium", "SLD strong", "SLD max", "SAFREE"])
    assert [made[f"SLD {preset}"].warmup for preset in ("medium", "strong", "max")] == [20, 14, 0]
    assert made["SAFREE"].limit == 20


def test_uce_preserves_the_names_of_classes_that_stay(imagenette):
    work, _ = prepare(replace(imagenette, methods="UCE"), load_pipeline, None)
    names = work.methods["UCE"].preserve_names
    assert sorted([*names, "church"]) == sorted(NAMES)


@pytest.fixture
def position_sae(studio, tmp_path) -> Path:
    _, origin = load_sae(studio.sae)
    save_sae(random_sae(0, SAEConfig.plain(32, latents=48, k=5)), tmp_path / "positions", origin)
    return tmp_path / "positions"


def test_rivals_that_code_positions_do_not_get_an_sae_that_codes_prompts(studio, position_sae):
    pipe = load_pipeline(studio.model)
    for name in ("ItD", "Concept Steerers", "SNCE as in the paper"):
        made = Studio(pipe, replace(CONFIG, position_sae=position_sae), None).made([name])[name]
        assert made.sae.config.support == "position"
        with pytest.raises(SnceError, match=r"has a code per prompt.*--support position"):
            Studio(pipe, replace(CONFIG, position_sae=studio.sae), None).made([name])


def test_an_eraser_goes_before_an_sae(studio):
    pipe, config = load_pipeline(studio.model), replace(CONFIG, sae=studio.sae, eraser=str(studio.eraser))
    eraser = ConceptEraser.load(studio.eraser)
    made = Studio(pipe, config, eraser).made(["SNCE"])
    assert isinstance(made["SNCE"], GivenEraser)
    assert made["SNCE"].prepare(pipe, ()).eraser is eraser
    assert Studio(pipe, config, None).made(["SNCE"])["SNCE"].sae.config == load_sae(studio.sae)[0].config


def test_ours_with_more_neurons_is_made_from_the_sae_and_the_papers_from_one_that_codes_positions(studio, position_sae):
    pipe = load_pipeline(studio.model)
    config = replace(CONFIG, sae=studio.sae, position_sae=position_sae, eraser=str(studio.eraser))
    made = Studio(pipe, config, ConceptEraser.load(studio.eraser)).made([n for n in ENTRIES if n.startswith("SNCE (")])
    prompt_coded, position_coded = load_sae(studio.sae)[0], load_sae(position_sae)[0]
    assert [(type(m), m.n, m.sae.config) for m in made.values()] == [(SNCE, n, prompt_coded.config) for n in (2, 4, 8)]
    erasure = made["SNCE (4 neurons)"].prepare(pipe, [Concept.load(studio.concept)])
    assert len(erasure.eraser.concepts) == 4
    paper = Studio(pipe, config, None).made(["SNCE as in the paper"])["SNCE as in the paper"]
    assert paper == PaperSNCE(paper.sae)
    assert paper.sae.config == position_coded.config


def test_an_sae_inside_another_unet_is_refused(studio, tmp_path):
    pipe = load_pipeline(studio.model)
    sae, origin = load_sae(studio.sae)
    config = replace(CONFIG, unet_sae=tmp_path)
    save_sae(sae, tmp_path, replace(origin, fingerprint=weights_fingerprint(pipe.unet), module="up_blocks.0"))
    assert Studio(pipe, config, None).made(["SAeUron"])["SAeUron"].sae.block == "up_blocks.0"
    save_sae(sae, tmp_path, origin)
    with pytest.raises(SnceError, match="another UNet"):
        Studio(pipe, config, None).made(["SAeUron"])


def test_inputs_tell_concepts_saes_and_erasers_apart(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sae.safetensors").write_bytes(content)
    one, two = (replace(CONFIG, position_sae=tmp_path / name) for name in "ab")
    other, method = replace(CONCEPT, targets=("a pistol",)), UCE()
    assert inputs_of("ItD", method, one, [CONCEPT]) != inputs_of("ItD", method, two, [CONCEPT])
    assert inputs_of("ItD", method, one, [CONCEPT]) != inputs_of("ItD", method, one, [other])
    assert inputs_of("UCE", method, one, [CONCEPT]) == inputs_of("UCE", method, two, [CONCEPT])  # it reads no SAE
    assert inputs_of("UCE", method, one, [CONCEPT]) != inputs_of("UCE", UCE(guide="art"), one, [CONCEPT])
    assert inputs_of("none", method, one, [CONCEPT]) == inputs_of("none", method, two, [other])
    with pytest.raises(SnceError, match="cannot read"):
        inputs_of("ItD", method, replace(CONFIG, position_sae=tmp_path / "c"), [CONCEPT])


def test_the_text_encoder_comes_home_after_fitting(pipe):
    moves = []
    pipe.text_encoder.to = moves.append
    with pytest.raises(KeyError), fitting(pipe, ENTRIES["LEACE"]):
        raise KeyError
    assert [str(move) for move in moves] == ["cpu", str(pipe.text_encoder.device)]
