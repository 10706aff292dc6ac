"""What reading a file takes: twice its size at most, and bombs are refused before they go off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snce import checkpoint
from snce.sae.config import SAEConfig
from snce.sae.formats import save_sae
from snce.sae.origin import SAEOrigin
from snce.sae.saelens import save_saelens
from snce.sae.sparsify import save_sparsify
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
ROWS_FACTOR = 10
"""The benchmark's rows, for each byte that they take unpacked."""
SUITE_FACTOR, HEADER_FACTOR = 6, 300
"""Prompts of a suite, with their seeds and classes; the header of a README.md, of which 200,000 characters are read."""


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
@pytest.mark.parametrize("kind", ["saelens as topk", "saelens as jumprelu", "sparsify"])
def test_the_sae_of_another_library_takes_so_much_at_most(tmp_path, kind):
    sae, origin = random_sae(0, SAEConfig.plain(WIDTH, latents=LATENTS, k=8)), SAEOrigin("f", "text_encoder", "norm")
    sae.threshold.fill_(0.5)
    library, _, activation = kind.partition(" as ")
    if activation:
        save_saelens(sae, tmp_path, origin, activation)
    else:
        save_sparsify(sae, tmp_path, origin)
    (path,) = tmp_path.glob("*.safetensors")
    grown, told = growth(library, path)
    assert told == "read"
    assert grown < FOREIGN_FACTOR * path.stat().st_size + CONSTANT


def real_rows(path: Path, n: int, width: int) -> None:
    """As of real pictures: no prompt, seed or feature is there twice."""
    from snce.bench.rows import write_rows
    from tests.bench.test_rows import ROW

    numbers = np.random.default_rng(0)
    features = numbers.standard_normal((n, 2, width)).astype(np.float16)
    rows = [
        replace(ROW, prompt=f"a photograph of a church and of {i} other things", seed=i, psnr=numbers.uniform(10, 40),
                features_before=before, features_after=after)
        for i, (before, after) in enumerate(features)
    ]  # fmt: skip
    write_rows(path, rows, {})


@pytest.mark.slow
@pytest.mark.parametrize("width", [512, 4])
def test_the_rows_of_the_benchmark_take_so_much_at_most(tmp_path, width):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    real_rows(path, n=20_000 if width == 512 else 60_000, width=width)
    unpacked = parquet.read_table(path).nbytes
    grown, told = growth("parquet", path)
    assert told == "read"
    assert unpacked > 10_000_000
    assert grown < ROWS_FACTOR * unpacked + CONSTANT


@pytest.mark.slow
def test_rows_that_stand_for_more_than_they_are_are_refused_in_time(tmp_path):
    pytest.importorskip("pyarrow")
    from snce.bench.rows import ALLOWED, MOST_PER_BYTE
    from tests.bench.test_rows import small_file

    path = tmp_path / "x.parquet"
    small_file(path, 2000, 500, prompt="x" * 200_000)
    grown, told = growth("parquet", path)
    assert "more than 1000 times its size" in told
    assert grown < 2 * (MOST_PER_BYTE * path.stat().st_size + ALLOWED)


@pytest.mark.slow
def test_the_prompts_of_a_suite_take_so_much_at_most(tmp_path):
    path = tmp_path / "x.csv"
    captions(path, "caption\n", '"', '"')
    grown, told = growth("suite", path)
    assert told == "read"
    assert grown < SUITE_FACTOR * path.stat().st_size + CONSTANT


@pytest.mark.slow
@pytest.mark.parametrize("fields", ["tags: [" + "a," * 90_000 + "]", "x: [" + "[]," * 60_000 + "]"])
def test_the_header_of_a_card_takes_so_much_at_most(tmp_path, fields):
    path = tmp_path / "README.md"
    path.write_text(f"---\n{fields}\n---\n")
    grown, told = growth("readme", path)
    assert told == "read"
    assert grown < HEADER_FACTOR * path.stat().st_size + CONSTANT


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
