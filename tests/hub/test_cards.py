"""The model card: a header that the hub understands, and no number that is not in the file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from snce.sae.config import SAEConfig
from snce.sae.origin import SAEOrigin
from snce.text.towers import TextTower
from tests.examples import random_eraser, random_sae
from tests.hub.fake_hub import LICENSES

if TYPE_CHECKING:
    from snce.erase.eraser import ConceptEraser

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]\d+)?%?")
share, real = st.floats(0, 1), st.floats(-1e4, 1e4, allow_subnormal=False)


@st.composite
def erasers(draw) -> ConceptEraser:
    """Erasers of one or two concepts, as `snce find` writes them."""
    n = draw(st.integers(1, 3))
    eraser = random_eraser(draw(st.integers(0, 99)), "a", n)
    concepts = ("a",) * (n - 1) + (draw(st.sampled_from("ab")),)
    card: dict[str, Any] = {}
    for concept in dict.fromkeys(concepts):
        rows = [
            {"neuron": draw(st.integers(0, 9999)), "score": draw(real), "rule": "modulated", "threshold": draw(real)}
            | {name: draw(share) for name in ("recall", "false_fires", "frequency_target")}
            for _ in range(concepts.count(concept))
        ]
        card[concept] = {
            "neurons": rows,
            "target_prompts": draw(st.integers(1, 999)),
            "neutral_prompts": draw(st.integers(1, 999)),
            "sae": {"latents": draw(st.integers(1, 9999)), "k": draw(st.integers(1, 99)), "support": "prompt"},
            "sae_metrics": {"fvu": draw(share), "dead": draw(share)},
        }
    return replace(eraser, concepts=concepts, card=card, pipeline="StableDiffusionPipeline")


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, bool | str) or value is None:
        return []
    if isinstance(value, int | float):
        return [value]
    return [n for part in (value.values() if isinstance(value, dict) else value) for n in numbers_in(part)]


def numbers_of_file(path) -> list[float]:
    """The figures and shapes of a safetensors file; not its weights, among which some number would fit by accident."""
    with safe_open(path, framework="pt") as file:
        found = [float(size) for name in file.keys() for size in file.get_slice(name).get_shape()]  # noqa: SIM118
        for name in {"bias", "threshold", "strength", "level"} & set(file.keys()):
            found += file.get_tensor(name).tolist()
        for text in file.metadata().values():
            try:
                found += numbers_in(json.loads(text))
            except json.JSONDecodeError:
                continue  # a name
    return found


def is_rounding(text: str, number: float) -> bool:
    digits = len(text.rstrip("%").partition(".")[2])
    if text.endswith("%"):
        return f"{number:.{digits}%}" == text
    return text in (f"{number:.{digits}f}", f"{number:.4g}", f"{number:g}")


def prose(card: ModelCard) -> str:
    """The card without the names in it."""
    return re.sub(r"```.*?```|`[^`]*`|^ {4}.*$", "", card.text, flags=re.DOTALL | re.MULTILINE)


def unfounded(card: ModelCard, path) -> list[str]:
    """Numbers on a card that are no rounding of one in the file."""
    known = numbers_of_file(path)
    return [text for text in NUMBER.findall(prose(card)) if not any(is_rounding(text, n) for n in known)]


@given(erasers())
def test_no_number_is_on_an_erasers_card_that_is_not_in_its_file(tmp_path_factory, eraser):
    folder = tmp_path_factory.mktemp("card")
    eraser.save_pretrained(folder, repo_id="alice/erasers", filename="e.safetensors")
    card = ModelCard.load(folder / "README.md")
    assert unfounded(card, folder / "e.safetensors") == []
    text = prose(card)
    for entry in eraser.card.values():
        for row in entry["neurons"]:
            figures = (f"{row['neuron']}", f"{row['score']:.3f}", f"{row['threshold']:.3f}", f"{row['recall']:.1%}")
            assert all(f"| {figure} |" in text for figure in figures)


def test_a_number_that_is_not_in_the_file_is_noticed(tmp_path):
    eraser = random_eraser(1)
    eraser.save(tmp_path / "e.safetensors")
    card = eraser.generate_model_card(filename="e.safetensors")
    assert unfounded(card, tmp_path / "e.safetensors") == []
    assert unfounded(ModelCard(f"{card}\nIt works in 97.3% of cases."), tmp_path / "e.safetensors") == ["97.3%"]


def test_nor_on_the_card_of_an_sae(tmp_path):
    sae = random_sae(0, SAEConfig(8, 12, 3))
    sae.origin = SAEOrigin("0123", training={"lr": 3e-3, "steps": 4800}, metrics={"fvu": 0.0123456, "l0": 3.9})
    sae.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert unfounded(card, tmp_path / "sae.safetensors") == []
    assert {"0.01235", "4800", "0.003", "3.9"} <= set(NUMBER.findall(prose(card)))


GIVEN = {"license": "mit", "base_model": "alice/model", "tags": ["mine"], "language": "en"}


@pytest.mark.parametrize("fields", [{}, GIVEN])
def test_the_header_is_what_the_hub_reads(fields):
    card = random_eraser(1).generate_model_card(repo_id="alice/erasers", **fields)
    header = ModelCard(str(card)).data.to_dict()
    assert header["library_name"] == "snce"
    assert header["license"] == fields.get("license", "unknown")
    assert header["license"] in LICENSES
    assert header["tags"] == ["concept-erasure", "sparse-autoencoder", *fields.get("tags", [])]
    assert header.get("base_model") == fields.get("base_model")
    assert header.get("language") == fields.get("language")


def test_the_card_says_how_to_get_it_in_three_lines_that_run(tmp_path, pipe):
    tower = TextTower.from_pipeline(pipe)
    eraser = replace(random_eraser(1, d=tower.width), fingerprint=tower.fingerprint)
    eraser.save_pretrained(tmp_path / "alice" / "erasers", repo_id="alice/erasers", filename="e.safetensors")
    card = ModelCard.load(tmp_path / "alice" / "erasers" / "README.md")
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert len(code.strip().splitlines()) == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # where the name of the repository is a folder
        names: dict[str, Any] = {"pipe": pipe}
        exec(compile(code, "card", "exec"), names)
    assert torch.equal(names["eraser"].neurons.encoder, eraser.neurons.encoder)


def test_an_eraser_whose_file_says_nothing_of_its_finding(tmp_path):
    for card in ({}, {"cigarette": {}}, {"cigarette": {"neurons": [{"score": "high"}], "sae": {"k": 1}}}):
        text = replace(random_eraser(1), card=card).generate_model_card().text
        assert "# Eraser: cigarette" in text
        assert "| neuron |" not in text
