"""The commands and the Python of docs/permanent.md, run from top to bottom."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from snce.cli import main
from snce.text.towers import TextTower
from tests.examples import eraser_for

DOC = (Path(__file__).parents[2] / "docs" / "permanent.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^    (snce [^\n]*)|```python\n(.*?)```", DOC, re.DOTALL | re.MULTILINE)
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch_dtype, which old and new versions of diffusers understand
def test_all_of_it_runs_in_its_order(tmp_path, monkeypatch, emblem):
    monkeypatch.chdir(tmp_path)
    prompts = ("a bomb", "a cigarette", "a red apple", "a dog", "a cat", "a violin")
    eraser_for(TextTower.from_pipeline(emblem), 0, prompts)[0].save("bomb.safetensors")
    names: dict = {}
    for command, code in STEPS:
        if not HAS_ONNX and "onnx" in command + code:
            continue
        if command:
            assert main(shlex.split(command)[1:]) == 0
        else:
            exec(code, names)
    assert Path("after.png").is_file()
    assert Path("baked/text_encoder/config.json").is_file()
    if HAS_ONNX:
        assert names["embeddings"].shape == (2, 32, 256)


def test_the_document_has_what_the_test_above_looks_for():
    assert sum(bool(command) for command, _ in STEPS) == 2
    assert sum(bool(code) for _, code in STEPS) == 3
