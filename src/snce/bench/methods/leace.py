"""LEACE: least-squares concept erasure (Belrose et al., arXiv 2306.03819) of the embeddings that the denoiser reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from snce.bench.methods.base import Knob, nbytes
from snce.bench.methods.prompts import neutral_prompts, prompts_edited
from snce.errors import SnceError
from snce.text.harvest import harvest
from snce.text.positions import BEGIN
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from concept_erasure import LeaceEraser

    from snce.text.harvest import Embeddings
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class Leace:
    """The smallest affine change after which no linear probe tells target prompts from neutral ones at a position.

    Each token position of a prompt (but begin-of-text) is a sample, labelled with what its prompt shows: one yes or no
    per concept. All concepts share one eraser, of a rank as high as there are concepts. The edit acts on every prompt,
    whether it shows a concept or not: that is the plain method, and it has nothing to tune.

    Fitted with the library `concept-erasure` in float64: its shrinkage of the covariance as by default; without its
    bound on the trace, which mixes in a projection that does not erase; and with a lower cut-off of singular values,
    so that rare concepts are erased too. Neither is in the paper.
    """

    name: ClassVar[str] = "leace"
    knob: ClassVar[Knob | None] = None

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> LeaceErasure:
        tower = TextTower.from_pipeline(pipe)
        sets = [harvest(tower, list(dict.fromkeys(concept.targets))) for concept in concepts]
        return fit([*sets, harvest(tower, neutral_prompts(concepts))])


def fit(sets: Sequence[Embeddings]) -> LeaceErasure:
    """Fit on the target prompts of each concept and, last, the neutral prompts.

    Raises:
        SnceError: the library is not installed.
    """
    try:
        from concept_erasure import LeaceEraser, LeaceFitter
    except ImportError as error:
        raise SnceError("LEACE needs the library concept-erasure: pip install concept-erasure") from error
    width, classes = sets[0].x.shape[-1], len(sets) - 1
    fitter = LeaceFitter(width, classes, dtype=torch.float64, constrain_cov_trace=False, svd_tol=1e-5)
    for i, data in enumerate(sets):
        label = torch.nn.functional.one_hot(torch.tensor(i), classes + 1)[:-1]  # neutral: no for all concepts
        for x, kinds in zip(data.x.split(256), data.kinds.split(256), strict=True):
            rows = x[kinds != BEGIN].double().cpu()
            fitter.update(rows, label.expand(len(rows), -1))
    found = fitter.eraser
    assert found.bias is not None  # of the affine form, which is the default
    return LeaceErasure(LeaceEraser(found.proj_left.float(), found.proj_right.float(), found.bias.float()))


@dataclass(frozen=True, eq=False)
class LeaceErasure:
    """x' = x - L R (x - b), with L [d, concepts], R [concepts, d] and b [d]."""

    eraser: LeaceEraser

    @property
    def nbytes(self) -> int:
        return nbytes({k: v for k, v in vars(self.eraser).items() if isinstance(v, Tensor)})

    def edit(self, x: Tensor, kinds: Tensor) -> Tensor:
        """Embeddings x [b, positions, d] with the concepts erased; begin-of-text stays as it is."""
        parts = (t.to(x.device) for t in vars(self.eraser).values())
        erased = type(self.eraser)(*parts)(x.float()).to(x.dtype)
        return torch.where((kinds != BEGIN)[..., None], erased, x)

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        return prompts_edited(pipe, self.edit)
