"""Erasers on every family: what the denoiser receives is edited exactly where a neuron fires, in every tower, and is
the same, bit for bit, everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from torch import nn

from snce.erase.compose import compose
from snce.erase.edit import prompt_activation
from snce.erase.eraser import ConceptEraser
from snce.text.towers import TextTower
from tests.examples import random_neurons, same_bits
from tests.pipelines.families import CALLS, FAMILIES
from tests.pipelines.hook_points import FAMILY_FACTS, HookPoint
from tests.pipelines.rows import PROMPTS, assert_same, copied, part, received_rows
from tests.pipelines.spy import taken

if TYPE_CHECKING:
    from torch import Tensor

families = pytest.mark.parametrize("name", FAMILIES)


def content(tower: TextTower, prompts) -> tuple[Tensor, Tensor | None, Tensor]:
    """Embeddings, the mask of what an edit may touch, and token ids."""
    tokens = tower.tokenize(prompts)
    x = tower.encode_tokens(tokens)
    return x, tower.content(tokens) if x.shape[1] > 1 else None, tokens.ids


def towers_of(pipe) -> tuple[TextTower, ...]:
    calls = CALLS[type(pipe).__name__]
    return TextTower.all_of(pipe, **{name: calls[name] for name in ("max_sequence_length",) if name in calls})


def eraser_of(pipe, seed: int = 0, loud=PROMPTS[0], silent=PROMPTS[1]) -> ConceptEraser:
    """A random neuron in each tower, which fires on one prompt and not on the other."""
    parts = []
    for k, tower in enumerate(towers_of(pipe)):
        x, mask, _ = content(tower, [loud, silent])
        for attempt in range(100):
            neurons = random_neurons(seed + attempt, n=1, d=tower.width, whole_prompt=k % 2 == 0)
            heights = prompt_activation(x, neurons, tower.begin, mask)[:, 0]
            if heights[0] > heights[1]:
                break
        neurons = neurons._replace(threshold=heights.mean()[None])
        parts.append(ConceptEraser(neurons, ("concept",), tower.fingerprint, tower.name, tower.path, tower.pipeline,
                                   tower.begin))  # fmt: skip
    return compose(parts)


def points_of(pipe, tower: TextTower) -> list[HookPoint]:
    """The facts about a tower; three of them where it is three layers side by side."""

    def path(point: HookPoint) -> str:
        if not point.output or tower.path == point.module:
            return point.module
        name, *index = point.output
        return f"output.{name}" + (f"[{index[0]}]" if index else "")

    points = [point for point in FAMILY_FACTS[type(pipe).__name__].points if point.encoder == tower.name]
    return [point for point in points if path(point) == tower.path] or points


def assert_lands(pipe, tower: TextTower, x: Tensor, ids: Tensor, rows, i: int) -> None:
    """The denoiser received `x` [positions, d] of a tower in row `i`, wherever the facts say that it does."""
    points = points_of(pipe, tower)
    for point, values in zip(points, x.chunk(len(points), dim=-1), strict=True):
        if point.lands is not None:
            expected = taken(pipe, point, values if len(values) > 1 else values[0], ids)
            length = None if expected.ndim == 1 else len(expected)
            assert same_bits(part(rows, i, point.lands, length), expected), point


@families
def test_towers_read_what_the_denoiser_receives(family_pipe, name):
    pipe = family_pipe(name)
    rows, _ = received_rows(pipe)
    for tower in towers_of(pipe):
        x, _, ids = content(tower, PROMPTS)
        for i in range(len(PROMPTS)):
            assert_lands(pipe, tower, x[i], ids[i], rows, i)


@families
def test_an_encoder_that_is_offloaded_is_read_as_before(family_pipe, name):
    from accelerate import cpu_offload

    expected = [(t.encode(PROMPTS), t.width, t.begin) for t in towers_of(family_pipe(name))]
    pipe = FAMILIES[name](0)
    for part_ in pipe.components.values():
        if isinstance(part_, nn.Module):
            cpu_offload(part_, execution_device="cpu")
    for tower, (x, *facts) in zip(towers_of(pipe), expected, strict=True):
        assert next(tower.encoder.parameters()).is_meta
        assert same_bits(tower.encode(PROMPTS), x)
        assert [tower.width, tower.begin] == facts


@families
def test_what_the_denoiser_receives_is_edited_exactly_where_a_neuron_fires(family_pipe, name):
    pipe = family_pipe(name)
    plain, plain_negative = received_rows(pipe)
    eraser = eraser_of(pipe)
    with eraser.attach(pipe):
        rows, negative = received_rows(pipe)
    assert_same(negative, plain_negative)
    loud, silent = ({argument: [part[i]] for argument, part in rows.items()} for i in (0, 1))
    assert_same(silent, {argument: [part[1]] for argument, part in plain.items()})
    changed = 0
    for part_, tower in zip(eraser.parts, sorted(towers_of(pipe), key=lambda t: t.place), strict=True):
        x, mask, ids = content(tower, PROMPTS)
        edited = part_.edit(x, mask=mask)
        changed += not same_bits(edited, x)
        assert_lands(pipe, tower, edited[0], ids[0], loud, 0)
    assert changed == len(eraser.parts)
    rest, before = copied(loud), copied({argument: [part[0]] for argument, part in plain.items()})
    for point in FAMILY_FACTS[name].points:  # all but where towers land, and what other models make of them
        for region in (point.lands, *point.onward):
            if region is not None:
                for some in (rest, before):
                    part(some, 0, region).zero_()
    assert_same(rest, before)
    after, _ = received_rows(pipe)
    assert_same(after, plain)
