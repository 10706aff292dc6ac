"""The facts of `tests.pipelines.hook_points`, each proven on pipelines that run: what of the text encoders the denoiser
receives, and where."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.examples import same_bits
from tests.pipelines.denoiser import denoiser, run
from tests.pipelines.families import FAMILIES
from tests.pipelines.hook_points import FAMILY_FACTS
from tests.pipelines.rows import PROMPTS, assert_same, guided, part, received_rows
from tests.pipelines.spy import TAKES, padding, spy, taken

POINTS = {f"{name}-{point.encoder}.{point.module}": (name, point)
          for name, family in FAMILY_FACTS.items() for point in family.points}  # fmt: skip
every_family = pytest.mark.parametrize("name", FAMILIES)


def points(wanted=lambda _family, _point: True):
    """Run a test for each hook point of each family that is wanted."""
    chosen = {key: (name, point) for key, (name, point) in POINTS.items() if wanted(FAMILY_FACTS[name], point)}
    return pytest.mark.parametrize(("name", "point"), chosen.values(), ids=chosen)


def shifted(call: int, output: Tensor) -> Tensor:
    """Another number is added everywhere, for the prompt: the first call of the encoder."""
    return output if call else output + torch.randn(output.shape, generator=torch.Generator().manual_seed(1))


def test_every_family_is_in_the_table():
    assert FAMILY_FACTS.keys() == FAMILIES.keys()


@points()
def test_the_denoiser_receives_what_the_module_puts_out(family_pipe, untouched_rows, name, point):
    assert_lands(family_pipe(name), untouched_rows(name), point, (*point.onward, *point.flows), as_field=False)


@points(lambda _, point: point.output)
def test_a_change_of_the_field_of_the_output_lands_there_and_flows_nowhere_else(
    family_pipe, untouched_rows, name, point
):
    assert_lands(family_pipe(name), untouched_rows(name), point, point.onward, as_field=True)


def assert_lands(pipe, before, point, flows, as_field):
    """A change of the prompt's output reaches its region bit for bit, changes `flows`, and leaves all else alone."""
    with spy(pipe, point, shifted, as_field) as seen:
        after = received_rows(pipe)
    for i in range(len(PROMPTS)):
        if point.lands:
            want = taken(pipe, point, seen.outputs[0][i], seen.tokens[0][i])
            assert same_bits(part(after[0], i, point.lands, len(want)), want)
        for region in flows:
            assert not same_bits(part(after[0], i, region), part(before[0], i, region))
        for region in (*flows, point.lands) if point.lands else flows:
            for prompts in (before[0], after[0]):
                part(prompts, i, region)[...] = 0
    for rows, others in zip(after, before, strict=True):
        assert_same(rows, others)


@points(lambda family, point: family.negative and point.lands)
def test_of_a_negative_prompt_it_receives_the_same_output(family_pipe, name, point):
    pipe = family_pipe(name)
    with spy(pipe, point) as seen:
        _, negative = received_rows(pipe)
    assert len(seen.outputs) == 2
    for i in range(len(PROMPTS)):
        want = taken(pipe, point, seen.outputs[1][i], seen.tokens[1][i])
        assert same_bits(part(negative, i, point.lands, len(want)), want)


@every_family
def test_the_text_that_the_denoiser_receives_consists_of_these_outputs(untouched_rows, name):
    family = FAMILY_FACTS[name]
    regions = [region for point in family.points for region in (point.lands, *point.onward) if region]
    for rows in untouched_rows(name)[: 2 if family.negative else 1]:
        assert rows.keys() == {region.argument for region in regions} | set(family.masks)
        for i in range(len(PROMPTS)):
            assert all(part(rows, i, region).any() for region in regions)
            for region in regions:
                part(rows, i, region)[...] = 0
        for argument in rows.keys() - set(family.masks):
            assert not any(row.any() for row in rows[argument])


@every_family
def test_the_denoiser_receives_the_mask_of_the_tokens_or_none(family_pipe, name):
    pipe, family = family_pipe(name), FAMILY_FACTS[name]
    point = family.points[0]
    with spy(pipe, point) as seen:
        rows, _ = received_rows(pipe)
    tokenizer = getattr(pipe, point.tokenizer)
    for mask in family.masks:
        for i, tokens in enumerate(seen.tokens[0]):
            want = ~padding(tokens[None], tokenizer)[0][TAKES[point.takes](tokens, tokenizer)]
            assert torch.equal(rows[mask][i][: len(want)].bool(), want)
            assert not rows[mask][i][len(want) :].any()
        assert not all(row.all() for row in rows[mask])  # or the test would not tell a mask from ones


@points(lambda _, point: point.module != "text_projection" and point.takes != "end")
def test_padding_matters_only_where_the_table_says_that_it_is_read(family_pipe, name, point):
    pipe, family = family_pipe(name), FAMILY_FACTS[name]
    with spy(pipe, point) as seen:
        before = run(pipe, **guided(pipe, output_type="latent"))
    places = padding(seen.tokens[0], getattr(pipe, point.tokenizer))
    assert places.any()

    def shift_padding(call: int, output: Tensor) -> Tensor:
        return output if call else torch.where(places[..., None], shifted(0, output), output)

    with spy(pipe, point, shift_padding):
        after = run(pipe, **guided(pipe, output_type="latent"))
    assert same_bits(before, after) == (family.padding != "read")


@pytest.mark.parametrize("name", [name for name in FAMILIES if "ControlNet" in name])
def test_the_control_net_receives_what_the_unet_receives(family_pipe, name):
    pipe = family_pipe(name)
    texts = []
    handles = [
        model.register_forward_pre_hook(lambda _m, _args, given: texts.append(given), with_kwargs=True)
        for model in (pipe.controlnet, denoiser(pipe))
    ]
    try:
        run(pipe, **guided(pipe))
    finally:
        for handle in handles:
            handle.remove()
    control, unet = texts
    assert same_bits(control["encoder_hidden_states"], unet["encoder_hidden_states"])
    if "XL" in name:
        key = "added_cond_kwargs"
        assert same_bits(control[key]["text_embeds"], unet[key]["text_embeds"])


@points(lambda _, point: ".layers." in f".{point.module}")
def test_a_hook_on_a_layer_that_comes_after_the_first_run_is_missed_unless_it_is_prepended(
    family_pipe, untouched_rows, name, point
):
    pipe = family_pipe(name)
    before, _ = untouched_rows(name)  # since that run, transformers has hooks of its own on the layers
    for prepend in (False, True):
        with spy(pipe, point, shifted, prepend=prepend):
            after, _ = received_rows(pipe)
        for i in range(len(PROMPTS)):
            assert same_bits(part(after, i, point.lands), part(before, i, point.lands)) != prepend
