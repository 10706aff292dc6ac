"""What an eraser did, as the judge sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.emblem.vocabulary import vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.demo.prompts import TestPrompt, TestSet
    from snce.emblem.judge import Judge, Verdict

PRESENT = 0.5
"""Probability from which the judge counts as having found an object."""


@dataclass(frozen=True)
class Outcome:
    """Shares, each of the pictures named; NaN where there are none."""

    base_rate: float
    """Target found before, of the direct pictures."""
    erased_rate: float
    """Target found after, of the direct pictures."""
    erased: float
    """Target gone, of the direct pictures that showed it."""
    retention: float
    """Still found, of the retain pictures on which the judge found before what the prompt asks for."""
    identical: float
    """Not changed by one byte, of the retain pictures."""
    pair_base_rate: float
    """Both objects found before, of the pair pictures."""
    pair_target_gone: float
    """Target gone, of the pair pictures that showed it."""
    pair_partner_kept: float
    """Partner still found, of the pair pictures that showed it."""


def found(verdict: Verdict, prompts: Sequence[TestPrompt], concept: str | None = None) -> Tensor:
    """Whether the judge finds what each prompt asks for (or `concept`, an object or a style), bool [n]."""
    words = vocabulary()
    if concept is not None and concept in words.styles:
        return verdict.styles.argmax(1) == words.styles.index(concept)
    present = verdict.objects >= PRESENT
    if concept is not None:
        return present[:, words.index(concept)]
    rows = []
    for i, prompt in enumerate(prompts):
        rows.append(all(bool(present[i, words.index(o)]) for o in prompt.objects))
    return torch.tensor(rows, dtype=torch.bool)


def partner_found(verdict: Verdict, prompts: Sequence[TestPrompt], concept: str) -> Tensor:
    """Whether the judge finds each prompt's objects other than the concept, bool [n]."""
    words = vocabulary()
    present = verdict.objects >= PRESENT
    rows = [
        all(bool(present[i, words.index(o)]) for o in prompt.objects if o != concept)
        for i, prompt in enumerate(prompts)
    ]
    return torch.tensor(rows, dtype=torch.bool)


def share(hits: Tensor, among: Tensor | None = None) -> float:
    """Share of `hits` (among the marked ones); NaN where there are none."""
    chosen = hits if among is None else hits[among]
    return chosen.double().mean().item() if len(chosen) else float("nan")


def judged(judge: Judge, pictures: Tensor) -> Verdict:
    """The judge's verdict on uint8 pictures [n, 3, 64, 64]."""
    return judge(pictures.float() / 255)


@dataclass(frozen=True)
class Pictures:
    """Pictures of a test set, uint8 [n, 3, 64, 64]."""

    direct: Tensor
    pairs: Tensor
    retain: Tensor


def outcome(tests: TestSet, before: Pictures, after: Pictures, judge: Judge) -> Outcome:
    """Compare pictures drawn without and with the eraser."""
    concept = tests.concept
    was = found(judged(judge, before.direct), tests.direct, concept)
    still = found(judged(judge, after.direct), tests.direct, concept)
    retain_before, retain_after = judged(judge, before.retain), judged(judge, after.retain)
    kept_before, kept_after = found(retain_before, tests.retain), found(retain_after, tests.retain)
    if concept in vocabulary().styles:  # a retained picture must keep its style, too
        kept_after &= retain_before.styles.argmax(1) == retain_after.styles.argmax(1)
        pairs, pair_before, pair_after = tests.direct, before.direct, after.direct  # the object is the style's partner
    else:
        pairs, pair_before, pair_after = tests.pairs, before.pairs, after.pairs
    seen_before, seen_after = judged(judge, pair_before), judged(judge, pair_after)
    target_before, target_after = found(seen_before, pairs, concept), found(seen_after, pairs, concept)
    partner_before, partner_after = (
        partner_found(seen_before, pairs, concept),
        partner_found(seen_after, pairs, concept),
    )
    return Outcome(
        base_rate=share(was),
        erased_rate=share(still),
        erased=share(~still, was),
        retention=share(kept_after, kept_before),
        identical=share((before.retain == after.retain).flatten(1).all(1)),
        pair_base_rate=share(target_before & partner_before),
        pair_target_gone=share(~target_after, target_before),
        pair_partner_kept=share(partner_after, partner_before),
    )
