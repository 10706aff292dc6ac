"""Joining the summaries of two runs: methods that were drawn on the same prompts can be compared, whoever drew them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snce.bench.bootstrap import Interval
from snce.bench.costs import COST_FIGURES
from snce.bench.lineup import BASE, OURS
from snce.bench.measures import MEASURES
from snce.bench.summary import AHEAD, BASIS, BY_SET, NOT_MEASURED, SETS, STAMP
from snce.errors import SnceError
from snce.storage import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_summary(path: Path) -> dict[str, Any]:
    """What `write_summary` wrote; NaN where it has null.

    Raises:
        SnceError: it cannot be read, or is no such file.
    """
    summary = read_json(path, "summary.json of snce bench")
    try:
        return {title: {name: _checked(found) for name, found in methods.items()} for title, methods in summary.items()}
    except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError) as error:
        raise SnceError(f"{path} is no summary.json of this version of snce bench") from error


def _checked(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of a method, all numbers that they should be."""
    return {
        **found,
        **{name: Interval(*map(_number, Interval(**found[name])))._asdict() for name in (*MEASURES, AHEAD)},
        **{name: _number(found[name]) for name in ("setting", *COST_FIGURES)},
        SETS: int(found[SETS]),
        BASIS: {kind: int(n) for kind, n in found.get(BASIS, {}).items()},
        BY_SET: {name: _number(value) for name, value in found[BY_SET].items()},
        STAMP: found[STAMP].strip(),
    }


_NOT_TOLD = {AHEAD: NOT_MEASURED._asdict()}


def _same_ours(own: dict[str, Any], methods: dict[str, Any]) -> bool:
    """Whether ours has the same harmonic mean in both, or is in one only."""
    figures = [group[OURS]["harmonic mean"]["value"] for group in (own, methods) if OURS in group]
    return len(set(figures)) < 2


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def check_joinable(stamps: Mapping[str, str], others: dict[str, Any]) -> None:
    """Refuse `others` that cannot be joined with a summary whose groups have these stamps, by title.

    Raises:
        SnceError: a group of both was drawn on other concepts or prompts, or with another model or judge.
    """
    for title, methods in others.items():
        for name, found in methods.items():
            if title in stamps and found[STAMP] != stamps[title]:
                raise SnceError(
                    f"cannot join the summaries: {name!r} in {title!r} was measured on other concepts or prompts, or "
                    "with another version of Emblem or its judge"
                )


def join_summaries(own: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """`own` with those methods of `others` that it does not have, group by group, and groups that only `others` has.

    How far ours is ahead of a method of `others` is left out where ours has come out otherwise in `own`: it was told of
    the other run's.

    Raises:
        SnceError: they cannot be joined: see `check_joinable`.
    """
    check_joinable({title: methods[BASE][STAMP] for title, methods in own.items()}, others)
    joined = {title: dict(own.get(title, {})) for title in (*others, *own)}
    for title, methods in others.items():
        for name, found in methods.items():
            joined[title].setdefault(name, found if _same_ours(own.get(title, {}), methods) else found | _NOT_TOLD)
    return joined
