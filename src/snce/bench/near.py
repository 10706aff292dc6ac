"""What lies near an object: by its name in the text encoder, or by its looks to the judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from snce.bench.prompts import erased_objects, retained_objects
from snce.demo.measure import PRESENT
from snce.demo.pictures import draw
from snce.emblem.captions import with_article
from snce.emblem.vocabulary import vocabulary
from snce.storage import kept_tensors, locked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from snce.demo.laboratory import Laboratory

NEAREST = 5
LOOKS = 4
"""Pictures of each object by which its looks are judged."""
_KIND = "snce-bench-looks-1"


class Look(NamedTuple):
    text: str
    seed: int


def by_name(lab: Laboratory) -> Tensor:
    """Likeness of objects, [objects, objects]: the cosine of their names' embeddings at the last position, which has
    read it all."""
    return _cosines(lab.tower.encode([f"a {name}" for name in vocabulary().objects])[:, -1])


def by_looks(lab: Laboratory, folder: Path, progress: bool = False) -> Tensor:
    """Likeness of objects, [objects, objects]: the cosine of what the judge makes of their pictures, object by object.

    Not of its features, which tell styles as well. What the judge takes for an object when it stands alone (column for
    row) has no likeness to it: it would count the object as not erased. Drawing takes minutes: the judge's scores are
    kept in `folder`, and a second process waits for them.

    Args:
        progress: show a bar while drawing.
    """
    from rich.progress import Progress

    path = folder / "looks.safetensors"
    prompts = [Look(with_article(name), seed) for name in vocabulary().objects for seed in range(LOOKS)]

    def drawn() -> dict[str, Tensor]:
        with Progress(transient=True, disable=not progress) as bar:
            task = bar.add_task("what looks alike", total=len(prompts))
            pictures = draw(lab.pipe, prompts, advance=lambda n: bar.advance(task, n))
        features = lab.judge.features(pictures.float() / 255)
        return {"seen": lab.judge.of_features(features).objects.clamp(1e-6, 1 - 1e-6)}

    with locked(path):
        seen = kept_tensors(path, _KIND, f"{lab.fingerprint} {lab.judge_fingerprint} {LOOKS}", drawn)["seen"]
    seen = seen.view(-1, LOOKS, seen.shape[1])
    taken_for = (seen >= PRESENT).any(1).T
    return _cosines(seen.logit().mean(1)).masked_fill(taken_for, -1)


def nearest(likeness: Tensor, erased: Sequence[str]) -> dict[str, list[str]]:
    """Of each erased object, those retained ones that are most like it, the most alike first."""
    names, retained = list(vocabulary().objects), set(retained_objects(erased))
    near = {}
    for name in erased_objects(erased):
        order = likeness[names.index(name)].argsort(descending=True)
        near[name] = [names[i] for i in order.tolist() if names[i] in retained][:NEAREST]
    return near


def table(near: Mapping[tuple[str, ...], Mapping[str, Sequence[str]]]) -> str:
    """Markdown: a row for each erased object, with what `nearest` gives it; by what is erased together."""
    rows = ["| object | looks most like it |", "|---|---|"]
    for erased, found in near.items():
        company = f" (of {len(erased)} together)" if len(erased) > 1 else ""
        rows += [f"| {name}{company} | {', '.join(others)} |" for name, others in found.items()]
    return "\n".join(rows) + "\n"


def _cosines(x: Tensor) -> Tensor:
    x = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    return x @ x.T
