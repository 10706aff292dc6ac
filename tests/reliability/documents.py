"""Files beside which a command writes its own, and the prompts of a suite. The same table as in `parsers`."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from snce.bench.suites.columns import COLUMNS
from snce.bench.suites.prompts import PromptSet, load_prompts
from snce.commands.generate_options import GenerateOptions
from snce.commands.picture_files import Series, settings_of
from snce.hub.readme import merge, split
from tests.examples import FINGERPRINT, PROMPTS, random_eraser
from tests.reliability.mutations import forged_text
from tests.reliability.parsers import Parser

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

OPTIONS = GenerateOptions("emblem", Path("pictures"))
INPUTS = {"unet": FINGERPRINT}
SETTINGS = settings_of(PROMPTS, OPTIONS, INPUTS)
SUITE = b"""\
prompt,sd_seed,sd_guidance_scale,categories\r
"a ""red"" church, old",12,7.5,"a, b"\r
,,,\r
"two\nlines",3.0,,c\r
ein Haus,9007199254740993,7,\r
"""
HEADER = {"license": "mit", "tags": ["mine", "two words"], "base_model": "alice/model",
          "model-index": [{"name": "x", "results": [{"value": 0.5}]}], "extra": None}  # fmt: skip
README = b"""\
---
license: mit
tags: [mine, "two words"]
base_model: alice/model
date: 2024-01-31
model-index:
- name: x
  results: []
---
My words.

---

<!-- snce: card of eraser.safetensors -->

Another version of it.

<!-- snce: end of eraser.safetensors -->
More of them.
"""


def open_series(path: Path) -> Series:
    """The folder of pictures that has this file as its settings."""
    return Series(path.replace(path.with_name("settings.json")).parent, PROMPTS, OPTIONS, INPUTS)


def settings_are_those_of_the_pictures(_series: Series, content: bytes) -> None:
    """One that is not there is one that was left out."""
    there = json.loads(content)
    assert {k: v for k, v in there.items() if v is not None} == {k: v for k, v in SETTINGS.items() if v is not None}


def put_card(path: Path) -> str:
    """What becomes of a README.md beside which an eraser is saved."""
    readme = path.replace(path.with_name("README.md"))
    random_eraser(1).save_pretrained(readme.parent)
    return readme.read_text(encoding="utf-8")


def card_is_in_its_place(text: str, content: bytes) -> None:
    """Beside all fields that were there; and put in once more, it changes nothing."""
    before, _ = split(io.TextIOWrapper(io.BytesIO(content), "utf-8").read())
    header, _ = split(text)
    assert set(map(repr, before)) <= set(map(repr, header))
    assert {"concept-erasure", "sparse-autoencoder"} <= set(header["tags"])
    card = random_eraser(1).generate_model_card(filename="eraser.safetensors")
    assert merge(text, card, "eraser.safetensors", {}) == text


def forged_readme(content: bytes) -> SearchStrategy[bytes]:
    """With another header before its own."""
    headers = forged_text(json.dumps(HEADER).encode())
    return headers.map(lambda header: b"---\n" + header + b"\n---\n" + content)


def prompts_are_those_of_the_column(found: PromptSet, content: bytes) -> None:
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    column = next(name for name in COLUMNS["text"] if name in rows[0])
    assert [p.text for p in found.prompts] == [text for row in rows if (text := row[column].strip())]
    assert all(0 <= p.seed < 2**63 for p in found.prompts)
    assert all(p.guidance is None or math.isfinite(p.guidance) for p in found.prompts)


def documents() -> list[Parser]:
    """All of them."""

    def read_suite(path: Path) -> PromptSet:
        return load_prompts("i2p", str(path))

    settings = json.dumps(SETTINGS).encode()
    return [
        Parser("settings.json", ".json", settings, open_series, settings_are_those_of_the_pictures, (forged_text,)),
        Parser("README.md", ".md", README, put_card, card_is_in_its_place, (forged_readme,)),
        Parser("CSV of a suite", ".csv", SUITE, read_suite, prompts_are_those_of_the_column),
    ]
