"""Damaged files and odd numbers: a clear error, and nothing lost."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from snce.cli import main
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.sae.formats import load_sae, sae_file
from snce.storage import CHECKSUM, read_metadata, read_tensors, write_tensors
from tests.examples import random_eraser, same_bits
from tests.studio import train

if TYPE_CHECKING:
    from pathlib import Path

# -- damage ------------------------------------------------------------------------------------------------------------


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def check_flips(tmp_path: Path, step: int) -> None:
    """Flip every `step`-th bit of an eraser file."""
    path, eraser = tmp_path / "e.safetensors", random_eraser(3, n=1, d=16)
    eraser.save(path)
    content, noticed = path.read_bytes(), 0
    tried = range(0, 8 * len(content), step)
    for bit in tried:
        path.write_bytes(flipped(content, bit))
        try:
            found = ConceptEraser.load(path)
        except SnceError:
            noticed += 1
            continue
        # a bit of the checksum's own name, or of the blanks that fill up the header
        assert all(same_bits(a, b) for a, b in zip(found.neurons, eraser.neurons, strict=True))
        assert (found.concepts, found.card, found.begin) == (eraser.concepts, eraser.card, eraser.begin)
        assert found.fingerprint == eraser.fingerprint
    assert noticed > 0.9 * len(tried)


def test_a_flipped_bit_in_an_eraser_file_is_noticed(tmp_path):
    check_flips(tmp_path, step=29)


@pytest.mark.slow
def test_any_flipped_bit_in_an_eraser_file_is_noticed(tmp_path):
    check_flips(tmp_path, step=1)


def test_a_flipped_bit_in_an_sae_or_a_checkpoint_is_one_clear_line(studio, tmp_path, capsys):
    assert main(train(studio, tmp_path)) == 0
    for name, command in (
        ("sae.safetensors", ["inspect", str(tmp_path / "sae.safetensors")]),
        ("checkpoint.safetensors", train(studio, tmp_path)),
    ):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(flipped(content, 8 * (len(content) - 100)))
        capsys.readouterr()
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "is damaged" in error
        assert "checksum" in error
        (tmp_path / name).write_bytes(content)


def test_a_file_of_an_earlier_version_has_no_checksum_and_is_read(tmp_path):
    path, eraser = tmp_path / "e.safetensors", random_eraser(1)
    eraser.save(path)
    metadata = read_metadata(path)
    assert CHECKSUM not in metadata
    save_file(load_file(path), path, metadata)
    assert all(same_bits(a, b) for a, b in zip(ConceptEraser.load(path).neurons, eraser.neurons, strict=True))


def test_the_checksum_does_not_depend_on_who_wrote_the_file(tmp_path):
    """Another library may read an eraser and write it again, in its own order."""
    path, eraser = tmp_path / "e.safetensors", random_eraser(1)
    eraser.save(path)
    said = path.read_bytes()
    size = int.from_bytes(said[:8], "little")
    metadata = json.loads(said[8 : 8 + size])["__metadata__"]
    assert CHECKSUM in metadata
    save_file(load_file(path), path, dict(reversed(metadata.items())))
    assert ConceptEraser.load(path).concepts == eraser.concepts
    save_file({k: t * (1 + (k == "decoder")) for k, t in load_file(path).items()}, path, metadata)
    with pytest.raises(SnceError, match="damaged"):
        ConceptEraser.load(path)


# -- numbers -----------------------------------------------------------------------------------------------------------


def saved_with(path: Path, name: str, change) -> Path:
    """An eraser file with one tensor changed, and a checksum that is right."""
    random_eraser(1).save(path)
    tensors, metadata = read_tensors(path, None)
    write_tensors(path, tensors | {name: change(tensors[name])}, metadata)
    return path


@pytest.mark.parametrize("name", ["encoder", "bias", "threshold", "decoder", "strength", "level"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path, name, value):
    def change(t: torch.Tensor) -> torch.Tensor:
        t = t.clone()
        t.view(-1)[1] = value
        return t

    path = saved_with(tmp_path / "e.safetensors", name, change)
    with pytest.raises(SnceError, match=f"{name}.*NaN or infinity"):
        ConceptEraser.load(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_other_floating_types_are_the_same_numbers(tmp_path, dtype):
    path = saved_with(tmp_path / "e.safetensors", "decoder", lambda t: t.to(dtype))
    found, expected = ConceptEraser.load(path).neurons, random_eraser(1).neurons
    assert same_bits(found.decoder, expected.decoder.to(dtype).float())
    assert same_bits(found.encoder, expected.encoder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("encoder", lambda t: t.to(torch.int32)),
        ("bias", lambda t: t.to(torch.complex64)),
        ("whole_prompt", lambda t: t.float()),
        ("decoder", lambda t: t.double() * 1e300),
        ("decoder", lambda t: t[:, :-1]),
        ("decoder", lambda t: t.T),
        ("threshold", lambda t: t[:0]),
        ("level", lambda t: t[None]),
    ],
)
def test_numbers_of_other_kinds_and_shapes_are_refused(tmp_path, name, change):
    path = saved_with(tmp_path / "e.safetensors", name, change)
    with pytest.raises(SnceError, match=r"e\.safetensors.*" + name):
        ConceptEraser.load(path)


def test_an_eraser_without_neurons_is_refused():
    eraser = random_eraser(1)
    with pytest.raises(SnceError, match="a neuron at least"):
        dataclasses.replace(eraser, neurons=type(eraser.neurons)(*(t[:0] for t in eraser.neurons)), concepts=())


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_an_sae_whose_scale_divides_by_nothing_is_refused(studio, tmp_path, scale):
    tensors, metadata = read_tensors(sae_file(studio.sae), None)
    write_tensors(tmp_path / "sae.safetensors", tensors | {"scale": torch.tensor(scale)}, metadata)
    with pytest.raises(SnceError, match=r"sae\.safetensors: 'scale'"):
        load_sae(tmp_path)
