"""Write the table of pipelines into docs/pipelines/README.md: what `snce.text.families` has, and the facts that
`tests/pipelines` proves about it.

python -m benchmarks.document_pipelines
"""

from __future__ import annotations

from pathlib import Path

import diffusers
from benchmarks.document import put
from tests.pipelines.families import FAMILIES as BUILT
from tests.pipelines.hook_points import FAMILY_FACTS, Family

from snce.errors import SnceError
from snce.text.families import FAMILIES, VARIANTS, rows_of

PAGE = Path(__file__).parents[1] / "docs" / "pipelines" / "README.md"

TEMPLATES = {
    "StableDiffusion": "begin-of-text, end-of-text",
    "StableDiffusionXL": "begin-of-text, end-of-text",
    "StableDiffusion3": "CLIP: begin-of-text, end-of-text; T5: end-of-text",
    "Flux": "T5: end-of-text",
    "Flux2": "chat: a system message before the prompt",
    "Flux2Klein": "chat, with an empty thought after the prompt",
    "PixArtAlpha": "end-of-text",
    "PixArtSigma": "end-of-text",
    "Sana": "an instruction before prompts, none before negative prompts",
    "QwenImage": "chat: a system message before the prompt, cut off before the denoiser",
    "ZImage": "chat",
    "CogVideoX": "end-of-text",
    "Wan": "end-of-text",
    "AudioLDM2": "T5: end-of-text",
}
"""What the pipeline puts around a prompt."""

PADDING = {
    "read": "read, edited",
    "masked": "not read: a mask",
    "zeros": "not read: zeros in its place",
    "cut": "not read: cut off",
}
LEFT_ALONE = {"Flux2": "read, left alone: it stands before the prompt"}
"""Families whose denoiser reads padding that an eraser does not touch."""


def table() -> str:
    """In Markdown, a row for each family."""
    head = "| pipeline | read and edited | parts of an eraser | padding | template | negative prompts |"
    return "\n".join([head, "|---|---|---|---|---|---|", *map(row, FAMILIES)])


def row(family: str) -> str:
    towers, facts = FAMILIES[family], FAMILY_FACTS[f"{family}Pipeline"]
    places = "<br>".join(f"`{tower.encoder}.{tower.path}`" for tower in towers)
    padding = LEFT_ALONE.get(family, PADDING[facts.padding])
    return f"| {classes(family)} | {places} | {len(towers)} | {padding} | {TEMPLATES[family]} | {negative(facts)} |"


def classes(family: str) -> str:
    """The class, and its variants in this diffusers: those that the tests run, and in italics those they do not."""
    there = [variant for variant in sorted(VARIANTS - {""}) if _is_known(f"{family}{variant}Pipeline")]
    run = [variant for variant in there if f"{family}{variant}Pipeline" in BUILT]
    rest = [f"*{variant}*" for variant in there if variant not in run]
    return ", ".join([f"`{family}Pipeline`", *run, *rest])


def _is_known(name: str) -> bool:
    try:
        return hasattr(diffusers, name) and bool(rows_of(name))
    except SnceError:
        return False


def negative(facts: Family) -> str:
    """How an eraser knows them."""
    if facts.negative is None:
        return "there are none"
    own = facts.encodings == 2
    if facts.negative == "empty":
        return "always empty; encoded by a call of their own"
    return "encoded by a call of their own" if own else "encoded in the same call, after the prompts"


if __name__ == "__main__":
    put(PAGE, "pipelines", table())
