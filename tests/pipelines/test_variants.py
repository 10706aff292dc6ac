"""The variants of a family encode prompts by the same code as its plain pipeline, in the installed diffusers."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

import diffusers
import pytest

from snce.errors import SnceError
from snce.text.families import FAMILIES, VARIANTS, rows_of

_ENCODING = re.compile(r"encode_prompt|_get_\w+_embeds?|_text_preprocessing|_extract_masked_hidden")

READ_BY_HAND = {
    "FluxControlNetPipeline": "converts prompts for textual inversion with the other tokenizer",
    "SanaImageToVideoPipeline": "calls the pictures videos",
    "SanaVideoPipeline": "calls the pictures videos",
    "SanaSprintPipeline": "has no negative prompt",
    "SanaSprintImg2ImgPipeline": "has no negative prompt",
    "WanAnimatePipeline": "another default length",
    "WanImageToVideoPipeline": "another default length",
}
"""Variants whose code differs, and how."""


def known_pipelines() -> list[str]:
    names = [name for name in dir(diffusers) if name.endswith("Pipeline") and "Modular" not in name]
    return [name for name in names if is_known(name)]


def is_known(name: str) -> bool:
    try:
        return bool(rows_of(name))
    except SnceError:
        return False


def family_of(name: str) -> str:
    return max((family for family in FAMILIES if name.startswith(family)), key=len)


def encoding_of(name: str) -> dict[str, str]:
    """What encodes prompts, by function: its code without comments and docstrings."""
    functions = inspect.getmembers(getattr(diffusers, name), inspect.isfunction)
    return {key: code(function) for key, function in functions if _ENCODING.fullmatch(key)}


def code(function) -> str:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    return ast.dump(tree)


KNOWN = known_pipelines()


@pytest.mark.parametrize("name", sorted(set(KNOWN) - READ_BY_HAND.keys()))
def test_a_variant_encodes_prompts_as_its_family(name):
    plain = encoding_of(f"{family_of(name)}Pipeline")
    own = encoding_of(name)
    assert {key: own.get(key) for key in plain} == plain


@pytest.mark.parametrize("name", READ_BY_HAND)
def test_those_that_were_read_by_hand_do_differ(name):
    plain, own = encoding_of(f"{family_of(name)}Pipeline"), encoding_of(name)
    assert name in KNOWN
    assert any(own.get(key) != text for key, text in plain.items())


@pytest.mark.parametrize("name", KNOWN)
def test_what_a_guard_watches_is_handed_all_embeddings_that_the_pipeline_is_given(name):
    """In every call, whatever the arguments; but for Z-Image, for which a guard is refused."""
    call = getattr(diffusers, name).__call__
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(call)))).body
    assert isinstance(tree, ast.FunctionDef)
    always = [part for part in tree.body if not isinstance(part, ast.If | ast.For | ast.With)]
    handed = [
        {word.arg for word in node.keywords}
        for part in always
        for node in ast.walk(part)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "encode_prompt"
    ]
    given = {p for p in inspect.signature(call).parameters if p.endswith("prompt_embeds") and not p.startswith("neg")}
    assert given
    assert (bool(handed) and given <= handed[0]) != name.startswith("ZImage")


def test_every_variant_is_one_of_diffusers():
    assert {name.removesuffix("Pipeline").removeprefix(family_of(name)) for name in KNOWN} == VARIANTS
    assert len(KNOWN) > 60


@pytest.mark.parametrize(
    "name", ["SanaPAGPipeline", "QwenImageEditPipeline", "KolorsPipeline", "object", "Pipeline", ""]
)
def test_what_encodes_otherwise_is_not_known(name):
    with pytest.raises(SnceError, match="is not a known pipeline"):
        rows_of(name)
