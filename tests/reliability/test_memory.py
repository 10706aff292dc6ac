"""What reading a file takes: twice its size at most, and bombs are refused before they go off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from snce import checkpoint
from snce.sae.config import SAEConfig
from snce.sae.formats import save_sae
from snce.sae.origin import SAEOrigin
from snce.sae.saelens import save_saelens
from snce.storage import MOST_TEXT
from tests.examples import random_eraser, random_sae
from tests.reliability.memory import LATENTS, WIDTH, a_training

pytestmark = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux: reads the high-water mark of a process"
)

ROOT = Path(__file__).parents[2]
CONSTANT = 12_000_000
"""Bytes beside twice the file's size."""
JSON_FACTOR = 55
"""JSON takes more than twice its size: so much at most, and it is read up to 16 MB."""
TEXT_FACTOR = 40
"""Prompts of a single character each take so much at most."""
FOREIGN_FACTOR = 4
"""The SAE of another library, made one of ours."""


def growth(kind: str, file: Path) -> tuple[int, str]:
    """(bytes by which a process grew while it read the file, "read" or what it complained of)"""
    command = [sys.executable, "-m", "tests.reliability.memory", kind, str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    grown, _, told = run.stdout.strip().partition(" ")
    return int(grown), told


def large_sae(path: Path) -> None:
    save_sae(random_sae(0, SAEConfig(WIDTH, latents=LATENTS, k=8)), path, SAEOrigin("f"))


def large_checkpoint(path: Path) -> None:
    sae, optimizer = a_training()
    for parameter in sae.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    checkpoint.save(path, 7, {"sae": sae}, {"adam": optimizer})


def large_eraser(path: Path) -> None:
    random_eraser(0, n=800, d=4096).save(path)


def captions(path: Path, head: str = "", before: str = "", after: str = "", n: int = 250_000) -> None:
    lines = (
        f"{before}a photograph of a church in the evening light, and of {i} other things{after}\n" for i in range(n)
    )
    path.write_text(head + "".join(lines))


OF_A_CONCEPT = "name: church\ntargets: [a church]\nneutrals:"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sae", large_sae),
        ("eraser", large_eraser),
        ("checkpoint", large_checkpoint),
        ("txt", captions),
        ("csv", lambda path: captions(path, "caption\n", '"', '"')),
        ("yaml", lambda path: captions(path, f"{OF_A_CONCEPT}\n", "- ", n=200_000)),
    ],
)
def test_reading_a_file_takes_twice_its_size_at_most(tmp_path, kind, make):
    path = tmp_path / ("x.safetensors" if kind in ("sae", "eraser", "checkpoint") else f"x.{kind}")
    make(path)
    grown, told = growth(kind, path)
    assert told == "read"
    assert path.stat().st_size > 15_000_000
    assert grown < 2 * path.stat().st_size + CONSTANT


def nested_aliases() -> bytes:
    """A billion laughs: 300 bytes that stand for 9^9 texts."""
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{chr(98 + i)}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(9)]
    return "\n".join(lines).encode()


def merged() -> bytes:
    lines = ["name: &m0 {x: 1}"] + [f"k{i}: &m{i + 1} {{<<: [{', '.join([f'*m{i}'] * 9)}]}}" for i in range(9)]
    return "\n".join(lines).encode()


def repeated() -> bytes:
    """A text of a megabyte with blanks around it, a hundred thousand times."""
    return b'harmful: &h "' + b" " * 500_000 + b"x" + b" " * 500_000 + b'"\ntargets: [' + b"*h, " * 100_000 + b"]"


def huge_shape() -> bytes:
    header = json.dumps({"encoder": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}).encode()
    return len(header).to_bytes(8, "little") + header


def huge_header() -> bytes:
    header = b'{"__metadata__":{"a":"' + b"x" * (MOST_TEXT + 1000) + b'"}}'
    return len(header).to_bytes(8, "little") + header


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("yaml", nested_aliases()),
        ("yaml", merged()),
        ("yaml", repeated()),
        ("yaml", b"targets: " + b"[" * 1_000_000),
        ("yaml", b"{" * 1_000_000),
        ("yaml", b"targets: [" + b"a, " * 6_000_000),
        ("eraser", huge_shape()),
        ("eraser", huge_header()),
        ("txt", b"x" * 30_000_000),
        ("csv", b'caption\n"' + b"x" * 30_000_000),
        ("json", b"[" * (MOST_TEXT + 1)),
        ("json", b"[" * 10_000_000),
    ],
)
def test_bombs_are_refused_before_they_go_off(tmp_path, kind, content):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content)
    grown, told = growth(kind, path)
    assert told != "read"
    assert grown < 2 * len(content) + CONSTANT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("txt", "Ā\n" * 1_500_000),
        ("csv", "caption\n" + "Ā\n" * 1_500_000),
        ("yaml", OF_A_CONCEPT + " [" + "Ā," * 1_500_000 + "a]"),
        ("yaml", OF_A_CONCEPT + "\n- ab" * 1_000_000),
    ],
)
def test_the_shortest_prompts_take_so_much_at_most(tmp_path, kind, content):
    """A text is an object of its own, and more than once in a list."""
    path = tmp_path / f"x.{kind}"
    path.write_text(content)
    grown, told = growth(kind, path)
    assert told == "read"
    assert grown < TEXT_FACTOR * path.stat().st_size + CONSTANT


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_the_sae_of_another_library_takes_so_much_at_most(tmp_path, activation):
    sae = random_sae(0, SAEConfig.plain(WIDTH, latents=LATENTS, k=8))
    sae.threshold.fill_(0.5)
    save_saelens(sae, tmp_path, SAEOrigin("f", "text_encoder", "norm"), activation)
    path = tmp_path / "sae_weights.safetensors"
    grown, told = growth("saelens", path)
    assert told == "read"
    assert grown < FOREIGN_FACTOR * path.stat().st_size + CONSTANT


def repeatedly(value: str, head: str = "") -> str:
    """A JSON list of as many of a value as make four million characters."""
    return f"[{head}" + ",".join([value] * (4_000_000 // len(value))) + "]"


@pytest.mark.slow
@pytest.mark.parametrize("file", ["x.json", "cfg.json"])
@pytest.mark.parametrize(
    "content",
    [
        repeatedly("[]"),
        repeatedly('{"":' * 900 + "0" + "}" * 900),
        # one emoji makes every character take four bytes, one escape makes it look for halves of surrogate pairs
        repeatedly("[" * 900 + "]" * 900, head='"\U0001f600\\u0041",'),
    ],
    ids=["lists", "deep objects", "deep lists"],
)
def test_json_takes_so_much_at_most(tmp_path, file, content):
    path = tmp_path / file
    path.write_text(content)
    grown, told = growth("json" if file == "x.json" else "saelens", path)
    assert told != "read"
    assert grown < JSON_FACTOR * path.stat().st_size + CONSTANT
