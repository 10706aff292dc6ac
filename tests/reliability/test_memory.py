"""What reading a file takes: twice its size at most, and bombs are refused before they go off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from snce.sae.config import SAEConfig
from snce.sae.formats import save_sae
from snce.sae.origin import SAEOrigin
from snce.storage import MOST_TEXT
from tests.examples import random_eraser, random_sae

pytestmark = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux: reads the high-water mark of a process"
)

ROOT = Path(__file__).parents[2]
CONSTANT = 12_000_000
"""Bytes beside twice the file's size."""
JSON_FACTOR = 40
"""JSON takes more than twice its size: so much at most, and it is read up to 16 MB."""


def growth(kind: str, file: Path) -> tuple[int, str]:
    """(bytes by which a process grew while it read the file, "read" or what it complained of)"""
    command = [sys.executable, "-m", "tests.reliability.memory", kind, str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    grown, _, told = run.stdout.strip().partition(" ")
    return int(grown), told


def large_sae(path: Path) -> None:
    save_sae(random_sae(0, SAEConfig(512, latents=6000, k=8)), path, SAEOrigin("f"))


def large_eraser(path: Path) -> None:
    random_eraser(0, n=800, d=4096).save(path)


def captions(path: Path, head: str = "", quote: str = "") -> None:
    lines = (
        f"{quote}a photograph of a church in the evening light, and of {i} other things{quote}\n"
        for i in range(250_000)
    )
    path.write_text(head + "".join(lines))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sae", large_sae),
        ("eraser", large_eraser),
        ("txt", captions),
        ("csv", lambda path: captions(path, "caption\n", '"')),
    ],
)
def test_reading_a_file_takes_twice_its_size_at_most(tmp_path, kind, make):
    path = tmp_path / ("x.safetensors" if kind in ("sae", "eraser") else f"x.{kind}")
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
def test_json_takes_so_much_at_most(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"[" + b"[]," * 1_000_000 + b"[]]")
    grown, told = growth("json", path)
    assert told != "read"
    assert grown < JSON_FACTOR * path.stat().st_size + CONSTANT
