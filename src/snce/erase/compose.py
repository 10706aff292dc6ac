"""Several erasers as one, in an order that does not depend on theirs."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from snce.erase.edit import Neurons
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.erase.eraser import ConceptEraser


def compose(erasers: Sequence[ConceptEraser]) -> ConceptEraser:
    """One eraser of all neurons of `erasers`, in an order that does not depend on theirs: see `ConceptEraser.__or__`.

    Those for different towers of a pipeline stay parts of their own.

    Raises:
        SnceError: two are for the same tower, and were made for different text encoders.
    """
    towers: dict[str, list[ConceptEraser]] = defaultdict(list)
    for eraser in erasers:
        for part in eraser.parts:
            towers[part.place].append(part)
    first, *others = (_compose_part(towers[place]) for place in sorted(towers))
    return replace(first, others=tuple(others))


def _compose_part(erasers: Sequence[ConceptEraser]) -> ConceptEraser:
    first = erasers[0]
    for other in erasers[1:]:
        if _made_for(other) != _made_for(first):
            raise SnceError(
                f"cannot join erasers of different text encoders: {first.concepts} is for {first.place} "
                f"{first.fingerprint}, {other.concepts} for {other.place} {other.fingerprint}"
            )
    same: dict[tuple, list[tuple[Neurons, str]]] = defaultdict(list)
    for eraser in erasers:
        unread = {concept: list(entry.get("neurons", [])) for concept, entry in eraser.card.items()}
        for i, concept in enumerate(eraser.concepts):
            row = Neurons(*(t[i] for t in eraser.neurons))
            rest = unread.get(concept)
            told = json.dumps(rest.pop(0) if rest else {}, sort_keys=True)
            content = (row.encoder, row.bias, row.whole_prompt, row.level > 0)
            same[concept, *(t.double().numpy().tobytes() for t in content)].append((row, told))
    keys = sorted(same)
    rows, entries = zip(*(_strictest(same[key]) for key in keys), strict=True)
    concepts = tuple(key[0] for key in keys)
    # where two cards tell different things of one concept, the choice must not depend on the order either
    about = [(c, {k: v for k, v in entry.items() if k != "neurons"}) for e in erasers for c, entry in e.card.items()]
    card = dict(sorted(about, key=lambda item: (item[0], json.dumps(item[1], sort_keys=True))))
    for concept in card:
        told = [entry for name, entry in zip(concepts, entries, strict=True) if name == concept]
        if any(told):
            card[concept]["neurons"] = told
    return replace(
        first,
        neurons=Neurons(*(torch.stack(tensors) for tensors in zip(*rows, strict=True))),
        concepts=concepts,
        pipeline=max(eraser.pipeline for eraser in erasers),
        card=card,
    )


def _made_for(eraser: ConceptEraser) -> tuple:
    return eraser.fingerprint, eraser.begin


def _strictest(same: list[tuple[Neurons, str]]) -> tuple[Neurons, dict[str, Any]]:
    """One neuron of several that read alike; direction and the card's entry are those of the lowest threshold."""
    strength, level = (max((getattr(row, name) for row, _ in same), key=float) for name in ("strength", "level"))
    row, told = min(same, key=lambda pair: (float(pair[0].threshold), pair[1], pair[0].decoder.tolist()))
    return row._replace(strength=strength, level=level), json.loads(told)
