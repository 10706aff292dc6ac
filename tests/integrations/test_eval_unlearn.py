"""The technique for eval-unlearn, without eval-unlearn: what it draws, and what it refuses. tests/ecosystem runs it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.integrations.eval_unlearn import SnceTechnique
from snce.pipelines import load_pipeline
from snce.text.towers import TextTower
from tests.pipelines.families import CALLS, FAMILIES
from tests.pipelines.rows import PROMPTS
from tests.pipelines.test_erasing import eraser_of
from tests.studio import NEUTRALS, TARGETS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def strong(studio, tmp_path_factory) -> Path:
    """The studio's eraser, so strong that no picture survives it unchanged."""
    path = tmp_path_factory.mktemp("strong") / "gun.safetensors"
    ConceptEraser.load(studio.eraser).with_strength(20.0).save(path)
    return path


@pytest.fixture(scope="module")
def prompts(studio, strong) -> dict[str, list[str]]:
    """A few on which the neuron fires, and a few on which it is silent."""
    eraser = ConceptEraser.load(strong)
    texts = [*TARGETS[:4], *NEUTRALS[:4]]
    fires = eraser.activations(texts, TextTower.from_pipeline(load_pipeline(studio.model)))[:, 0]
    fires = fires > eraser.neurons.threshold[0]
    sides = {"loud": [t for t, f in zip(texts, fires, strict=True) if f]}
    sides["silent"] = [t for t in texts if t not in sides["loud"]]
    assert all(len(side) >= 2 for side in sides.values())
    return sides


def drawn(studio, texts, seed=None, **config) -> list[bytes]:
    technique = SnceTechnique(**{"model": studio.model, "steps": 2, **config})
    return [image.tobytes() for image in technique.generate(texts, seed=seed)]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_silent_prompt_gives_the_same_bytes_as_without_eraser_and_a_loud_one_does_not(batch, studio, strong, prompts):
    mixed = [text for pair in zip(prompts["loud"], prompts["silent"], strict=False) for text in pair]
    before = drawn(studio, mixed, 5, batch=batch)
    after = drawn(studio, mixed, 5, batch=batch, erasers=[str(strong)])
    assert [b == a for b, a in zip(before, after, strict=True)] == [text in prompts["silent"] for text in mixed]


@pytest.mark.parametrize("batch", [1, 2])
def test_prompt_i_is_drawn_from_seed_plus_i_whatever_stands_beside_it(batch, studio):
    texts = ["red cat", "blue dog", "big hat"]
    together = drawn(studio, texts, 7, batch=batch)
    assert len(set(together)) == 3
    assert together == [drawn(studio, [text], 7 + i, batch=batch)[0] for i, text in enumerate(texts)]


@pytest.mark.parametrize("name", ["StableDiffusionXLPipeline", "FluxPipeline"])
def test_models_with_several_text_encoders_are_drawn_with_erasers_of_all_their_towers(name, tmp_path):
    pipe = FAMILIES[name](0)
    pipe.save_pretrained(tmp_path / "model")
    eraser = eraser_of(pipe).with_strength(20.0)  # so strong that no picture survives it unchanged
    eraser.save(tmp_path / "eraser.safetensors")
    arguments = CALLS[name] | {"guidance_scale": 1.0}

    def pictures(erasers):
        technique = SnceTechnique(model=str(tmp_path / "model"), steps=1, erasers=erasers)
        return [image.tobytes() for image in technique.generate(list(PROMPTS), seed=5, **arguments)]

    before, after = pictures([]), pictures([tmp_path / "eraser.safetensors"])
    assert len(eraser.parts) > 1
    assert [b == a for b, a in zip(before, after, strict=True)] == [False, True]  # loud on the first of PROMPTS


def test_a_picture_is_the_pipelines_own(studio):
    pipe = load_pipeline(studio.model)
    noise = torch.Generator().manual_seed(8)
    expected = pipe("blue dog", num_inference_steps=2, guidance_scale=3.0, generator=noise).images[0].tobytes()
    assert drawn(studio, ["red cat", "blue dog"], 7, guidance=3.0)[1] == expected


def test_batches_share_the_noise_and_all_but_the_last_bits(studio):
    texts = ["red cat", "blue dog", "big hat"]
    for one, three in zip(drawn(studio, texts, 7), drawn(studio, texts, 7, batch=3), strict=True):
        difference = torch.frombuffer(bytearray(one), dtype=torch.uint8).int()
        difference -= torch.frombuffer(bytearray(three), dtype=torch.uint8).int()
        assert difference.abs().max() <= 1


def test_the_seed_of_the_call_goes_before_that_of_the_configuration(studio):
    given = drawn(studio, ["red cat"], 7)
    assert drawn(studio, ["red cat"], seed=7) == given
    assert drawn(studio, ["red cat"], **{"seed": None}) != given
    technique = SnceTechnique(model=studio.model, steps=2, seed=7)
    assert [i.tobytes() for i in technique.generate(["red cat"])] == given
    assert [i.tobytes() for i in technique.generate(["red cat"], seed=8)] != given


def test_arguments_of_the_call_go_before_the_configuration(studio):
    technique = SnceTechnique(model=studio.model, steps=2, guidance=3.0)
    image = technique.generate(["red cat"], seed=7, num_inference_steps=3, guidance_scale=1.5)[0]
    assert [image.tobytes()] == drawn(studio, ["red cat"], 7, steps=3, guidance=1.5)
    negative = technique.generate(["red cat", "a hat"], seed=7, negative_prompt="blue")
    assert len(negative) == 2
    assert negative[0].tobytes() != technique.generate(["red cat"], seed=7)[0].tobytes()


def test_no_prompts_no_pictures(studio):
    assert drawn(studio, []) == []


def test_several_erasers_or_the_path_of_one(studio, strong, prompts):
    one = drawn(studio, prompts["loud"][:1], 1, erasers=str(strong))
    assert one == drawn(studio, prompts["loud"][:1], 1, erasers=[strong, strong])  # the same neuron counts once
    assert one != drawn(studio, prompts["loud"][:1], 1)


def test_a_safety_checker_does_not_black_out_what_is_to_be_counted(studio, tmp_path):
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(text_config=small, vision_config={**small, "image_size": 8, "patch_size": 4}, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(-2)  # nothing is less similar than that: every picture is unsafe
    pipe = load_pipeline(studio.model)
    size = {"height": 8, "width": 8}
    pipe.register_modules(
        safety_checker=checker.eval(), feature_extractor=CLIPImageProcessorPil(size=size, crop_size=size)
    )
    pipe.save_pretrained(tmp_path)
    guarded = load_pipeline(str(tmp_path))
    assert not any(guarded("red cat", num_inference_steps=2).images[0].tobytes())
    image = SnceTechnique(model=str(tmp_path), steps=2).generate(["red cat"], seed=7)[0]
    assert [image.tobytes()] == drawn(studio, ["red cat"], 7)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"eraser": "x"}, r"no option 'eraser'; it has model, erasers"),
        ({"model": None}, "needs a model"),
        ({"model": "mistyped"}, "unknown model 'mistyped'"),
        ({"erasers": ["nowhere.safetensors"]}, "no such file"),
        ({"steps": 0}, "steps = 0"),
        ({"steps": 2.5}, r"steps = 2\.5"),
        ({"batch": None}, "batch = None"),
        ({"guidance": float("nan")}, "guidance = nan"),
        ({"guidance": "7"}, "guidance = '7'"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": True}, "seed = True"),
        ({"device": "abacus"}, "cannot use device 'abacus'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_options_that_make_no_sense(options, says, studio):
    with pytest.raises(SnceError, match=says):
        SnceTechnique(**{"model": studio.model, **options})


def test_an_eraser_of_another_text_encoder(studio):
    with pytest.raises(SnceError, match="was made for a text encoder"):
        SnceTechnique(model=studio.other_model, erasers=[studio.eraser])


@pytest.mark.parametrize(
    "arguments",
    [{"colour": 1}, {"generator": None}, {"prompt_embeds": torch.zeros(1, 16, 32)}, {"negative_prompt": ["a"]}],
    ids=lambda a: next(iter(a)),
)
def test_arguments_that_the_pipeline_does_not_know_or_that_would_bypass_the_eraser(arguments, studio):
    technique = SnceTechnique(model=studio.model, steps=2)
    with pytest.raises(SnceError, match=next(iter(arguments))):
        technique.generate(["red cat"], **arguments)
    with pytest.raises(SnceError, match="list of prompts"):
        technique.generate("red cat")


def test_the_entry_point_names_this_class_and_costs_nothing_to_load():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, name = project["entry-points"]["eval_unlearn.techniques"]["snce"].split(":")
    assert getattr(import_module(module), name) is SnceTechnique
    code = f"import sys, {module}; assert not {{'torch', 'diffusers', 'eval_unlearn'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
