"""What a pipeline's denoiser receives, told apart: the rows of the prompts and the rows of the negative prompts."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tests.examples import same_bits
from tests.pipelines.denoiser import all_received
from tests.pipelines.hook_points import FAMILY_FACTS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from tests.pipelines.hook_points import Region

PROMPTS = ("a red owl", "cat")
NEGATIVES = ("rain", "a hat")

Rows = dict[str, list[Tensor]]
"""By argument of the denoiser: of each row of the batch [positions, width], or [width] where there are no positions."""


def guided(pipe: DiffusionPipeline, **options: Any) -> dict[str, Any]:
    """Options of a call with `PROMPTS` and, if the family has any, `NEGATIVES`."""
    family = FAMILY_FACTS[type(pipe).__name__]
    negative = {"negative_prompt": list(NEGATIVES)} if family.negative == "given" else {}
    # a list of one's own, since Z-Image writes into it
    return {"prompt": list(PROMPTS)} | negative | family.guided | options


def received_rows(pipe: DiffusionPipeline, **options: Any) -> tuple[Rows, Rows]:
    """What the denoiser receives for `PROMPTS` and for `NEGATIVES`, with all that `guided` turns on."""
    family = FAMILY_FACTS[type(pipe).__name__]
    calls = [_by_row(call) for call in all_received(pipe, **guided(pipe, **options))]
    if family.batch == "separate":
        return calls[0], calls[1] if family.negative else {}
    halves = [{}, {}]
    for argument, rows in calls[0].items():
        middle = len(rows) // 2
        halves[0][argument], halves[1][argument] = rows[:middle], rows[middle:]
    return (halves[0], halves[1]) if family.batch == "prompt, negative" else (halves[1], halves[0])


def _by_row(call: dict[str, Tensor]) -> Rows:
    rows: Rows = defaultdict(list)
    for path, tensor in call.items():
        argument, _, number = path.rpartition(".")
        if number.isdigit():  # a list of the batch's rows
            rows[argument].append(tensor)
        else:
            rows[path] = list(tensor)
    return dict(rows)


def copied(rows: Rows) -> Rows:
    return {argument: [row.clone() for row in part] for argument, part in rows.items()}


def part(rows: Rows, i: int, region: Region, length: int | None = None) -> Tensor:
    """A view of row `i`: the region, or the first `length` positions of it."""
    row = rows[region.argument][i]
    if row.ndim == 1:
        return row[region.width]
    return row[region.start : None if length is None else region.start + length, region.width]


def assert_same(rows: Rows, others: Rows) -> None:
    assert rows.keys() == others.keys()
    for argument, some in rows.items():
        for row, other in zip(some, others[argument], strict=True):
            assert same_bits(row, other), argument
