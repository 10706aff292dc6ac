"""The Python of the pages on integrations runs as it stands."""

import re
from pathlib import Path

import pytest

from tests.examples import random_eraser

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("comfyui.md", "modular.md")
SNIPPETS = [
    (page, code)
    for page in PAGES
    for code in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(("page", "code"), SNIPPETS)
def test_a_snippet_runs(page, code, tmp_path, monkeypatch):
    random_eraser(0, "church", d=768).save(tmp_path / "church.safetensors")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})


def test_every_page_has_python():
    assert {page for page, _ in SNIPPETS} == set(PAGES)
