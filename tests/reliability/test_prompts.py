"""Prompts of all kinds: none, one, a hundred thousand characters, every plane of Unicode, no Unicode at all."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from snce.cli import main
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.text.harvest import harvest
from snce.text.prompts import Concept, read_prompts
from tests.examples import PROMPTS, eraser_for, picture, random_eraser, same_bits
from tests.reliability.limits import cpu_seconds
from tests.studio import NEUTRALS, TARGETS, find, generate, train

if TYPE_CHECKING:
    from pathlib import Path

PLANES = [f"a {chr(plane << 16 | 0x1F4)}{chr(plane << 16 | 0x4E0)} hat" for plane in range(17)]
ODD = ["\0", "\ufffe", "\U0010ffff", "\u2028", "\u202e", "e\u0301" * 30, "\U0001f468\u200d\U0001f469", "\x1b[31m"]
ODD += [" ", ""]
HALF = "a \ud83d hat"
LONG = ["x" * 100_000, "a red cat, " * 9_000, "\U0001f600" * 30_000]


def test_no_prompts_are_a_clear_error(tower, erasers):
    eraser = erasers[0][0]
    for read in (tower.encode, tower.tokenize, lambda p: harvest(tower, p), lambda p: eraser.activations(p, tower)):
        with pytest.raises(SnceError, match="no prompts"):
            read([])


def test_one_prompt_is_encoded_as_among_others(tower):
    """To rounding among others in its block, since a product of another shape may add up in another order; bit for bit
    among blocks of one."""
    block, ones = harvest(tower, PROMPTS), harvest(tower, PROMPTS, batch_size=1)
    for i, prompt in enumerate(PROMPTS):
        one = harvest(tower, [prompt])
        assert one.x.shape == (1, *block.x.shape[1:])
        assert torch.equal(one.kinds[0], block.kinds[i])
        torch.testing.assert_close(one.x[0], block.x[i], rtol=1e-5, atol=1e-5)
        assert same_bits(one.x[0], ones.x[i])


@pytest.mark.parametrize("prompts", [PLANES, ODD, LONG], ids=["planes", "odd", "long"])
def test_prompts_of_any_length_and_script_are_read_and_drawn(pipe, tower, prompts, tmp_path):
    eraser, _, _ = eraser_for(tower, 0)
    with warnings.catch_warnings(), cpu_seconds(60):
        warnings.filterwarnings("ignore", "truncated")
        data = harvest(tower, prompts, tmp_path)
        assert torch.isfinite(data.x).all()
        assert eraser.activations(prompts, tower).shape == (len(prompts), 1)
        with eraser.attach(pipe):
            drawn = np.frombuffer(picture(pipe, prompts), np.float32)
            assert drawn.size == len(prompts) * len(picture(pipe, "a cat")) // 4
        assert np.isfinite(drawn).all()


def test_a_long_prompt_is_cut_and_named(tower):
    with pytest.warns(UserWarning, match=r"truncated to 16 tokens: 'x{60}'"):
        tower.encode(LONG[:1])


def test_half_of_a_surrogate_pair_is_a_clear_error(tower, studio, capsys, tmp_path):
    for read in (tower.encode, lambda p: harvest(tower, p), lambda p: Concept("hat", tuple(p), ("a cat",))):
        with pytest.raises(SnceError, match="no Unicode text"):
            read(["a cat", HALF])
    assert main(generate(studio, tmp_path / "x.png", HALF)) == 2
    assert "no Unicode text" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_prompt_files_hold_every_plane(tmp_path):
    (tmp_path / "p.txt").write_text("\n".join(PLANES), encoding="utf-8")
    (tmp_path / "p.csv").write_text("caption\n" + "\n".join(f'"{p}"' for p in PLANES), encoding="utf-8")
    assert read_prompts(str(tmp_path / "p.txt")) == PLANES
    assert read_prompts(f"{tmp_path}/p.csv:caption") == PLANES


def test_a_concept_of_every_plane_comes_back_from_its_file(tmp_path):
    concept = Concept("".join(PLANES), tuple(PLANES), (*PLANES[::-1], *(o for o in ODD if o.strip())))
    concept.save(tmp_path / "c.yaml")
    assert Concept.load(tmp_path / "c.yaml") == concept


def named(stem: str, tmp_path: Path) -> tuple[Path, Path]:
    """Files of prompts and of a concept, of this name."""
    source, concept = tmp_path / f"{stem}.txt", tmp_path / f"{stem}.yaml"
    source.write_text("\n".join(f"{p} {c}" for p in NEUTRALS for c in "abc"))
    Concept(PLANES[1] + PLANES[16], tuple(TARGETS), tuple(NEUTRALS)).save(concept)
    return source, concept


@pytest.mark.parametrize("stem", ["\U0001f600\u202e", "a b\n[red]c[bold]"], ids=["astral", "odd"])
def test_names_of_files_and_concepts_may_be_any_text(studio, tmp_path, stem):
    source, concept = named(stem, tmp_path)
    eraser = tmp_path / f"{stem}.safetensors"
    assert main(train(studio, tmp_path / stem, "--steps", "20", prompts=str(source))) == 0
    assert main(find(studio, eraser, concept=str(concept))) == 0
    assert main(["inspect", str(eraser)]) == 0
    assert ConceptEraser.load(eraser).concepts == (PLANES[1] + PLANES[16],)
    assert (tmp_path / f"{stem}.md").read_text(encoding="utf-8")
    assert (tmp_path / f"{stem}.png").exists()


def test_names_of_files_need_not_be_unicode_but_for_those_that_are_written(studio, tmp_path, capsys):
    """Safetensors files of such names can be written, and not read again."""
    stem = os.fsdecode(b"\xff\xfe")
    source, concept = named(stem, tmp_path)
    assert main(train(studio, tmp_path / "run", "--steps", "20", prompts=str(source))) == 0
    assert main(find(studio, tmp_path / "e.safetensors", concept=str(concept))) == 0
    concept.write_text("targets: [a cat, a dog]\nneutrals: [a hat, a car]\n")
    Concept.load(concept).name.encode()  # it is named after the file
    for command in (
        train(studio, tmp_path / stem),
        find(studio, tmp_path / f"{stem}.safetensors"),
        generate(studio, tmp_path / f"{stem}.png", "a cat"),
        ["inspect", str(tmp_path / f"{stem}.safetensors")],
    ):
        capsys.readouterr()
        assert main(command) == 2
        assert capsys.readouterr().err.count("error: ") == 1


def test_names_too_long_for_the_file_system_are_a_clear_error(studio, tmp_path, capsys):
    name = "n" * 300
    for command in (
        ["inspect", f"{name}.safetensors"],
        find(studio, tmp_path / f"{name}.safetensors"),
        find(studio, tmp_path / "e.safetensors", concept=name),
        generate(studio, tmp_path / f"{name}.png", "a cat"),
        train(studio, tmp_path / name),
        train(studio, tmp_path, prompts=f"{name}.txt"),
        generate(studio, tmp_path / "x.png", "a cat", model=name),
    ):
        capsys.readouterr()
        assert main(command) == 2
        assert capsys.readouterr().err.count("error: ") == 1
    with pytest.raises(SnceError, match="cannot"):
        random_eraser(0).save(tmp_path / f"{name}.safetensors")
    with pytest.raises(SnceError, match="cannot"):
        ConceptEraser.load(tmp_path / f"{name}.safetensors")
