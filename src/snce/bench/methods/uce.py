"""UCE: Unified Concept Editing (Gandikota et al., arXiv 2308.14761), the closed form on the cross-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from snce.bench.methods.base import Knob, loaded, nbytes
from snce.bench.methods.prompts import neutral_prompts
from snce.errors import SnceError
from snce.text.harvest import harvest
from snce.text.positions import END, PADDING, WORD
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from torch import nn

    from snce.text.prompts import Concept

Tokens = Literal["last", "all"]


@dataclass(frozen=True)
class UCE:
    """Keys and values of the concept become those of a guide; what the preserve set has stays.

    Minimises, for each to_k and to_v of the cross-attention, with W0 its weight,

        e sum_i |W c_i - W0 g_i|^2 + p sum_j |W c_j - W0 c_j|^2 + l |W - W0|^2

    over all concepts at once. The prompts:

    - c_i: of the prompt that is the concept's name and nothing else, at the positions that `tokens` says.
    - g_i: of the prompt `guide`, at the positions as far from its last token as c_i is from its own. The last token of
      the empty prompt is begin-of-text; so it is in the authors' code.
    - c_j: of bare names that stay, as the authors give them, at the same positions as c_i; and of neutral prompts.
      These are sentences, whose subject is not known, so all of their words count (and, with tokens = "all", their end
      and padding).

    Where we differ by default: the authors preserve nothing, or names that the user lists, such as other artists; their
    guide is "art" for styles, and they have prompts around the name ("painting by ..."). Give `preserve=0`,
    `preserve_names` and `guide` for that.
    """

    name: ClassVar[str] = "uce"
    knob: ClassVar[Knob | None] = Knob("erase_weight", (1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0))

    erase_weight: float = 1.0
    """e."""
    preserve_weight: float = 1.0
    """p."""
    regularisation: float = 0.5
    """l; above zero."""
    guide: str = ""
    """Prompt that the concepts turn into."""
    tokens: Tokens = "last"
    """Positions of the concept's prompt that are erased. "last": its last token, as in the authors' current code
    (trainscripts/uce_sd_erase.py). "all": that and everything after it, end-of-text and padding, as in the code that
    they published first (train-scripts/train_erase.py). A causal encoder repeats the concept in the end and the
    padding, so "last" leaves most of what a denoiser of the SD 1.x kind reads. Words before the last one are never
    erased: they do not know yet of what follows ("water" of "water pistol")."""
    preserve: int = 256
    """Neutral prompts in the preserve set, at most; drawn by the seed. 0 for none."""
    preserve_names: tuple[str, ...] = ()
    """Names in the preserve set."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> EditedWeights:
        tower = TextTower.from_pipeline(pipe)
        before = cross_attention(pipe.unet)
        c, guide = erased_and_guide(tower, [concept.name for concept in concepts], self.guide, self.tokens)
        kept = self.preserved(tower, concepts, self.tokens, seed)
        after = closed_form(before, c, guide, kept, self.erase_weight, self.preserve_weight, self.regularisation)
        return EditedWeights.like(after, before)

    def preserved(self, tower: TextTower, concepts: Sequence[Concept], tokens: Tokens, seed: int) -> Tensor:
        """c_j: [m, d] in float64."""
        rows = [torch.zeros(0, tower.width, dtype=torch.float64)]
        rows += [_from_last_token(tower, name, tokens) for name in self.preserve_names]
        if self.preserve:
            data = harvest(tower, neutral_prompts(concepts, self.preserve, seed))
            kinds = (WORD, END, PADDING) if tokens == "all" else (WORD,)
            rows.append(data.x.cpu()[torch.isin(data.kinds, torch.tensor(kinds, dtype=torch.uint8))].double())
        return torch.cat(rows)


@dataclass(frozen=True, eq=False)
class EditedWeights:
    """New weights of a denoiser."""

    weights: dict[str, Tensor]
    """By the name of the parameter in `pipe.unet`."""

    @classmethod
    def like(cls, weights: dict[str, Tensor], before: dict[str, Tensor]) -> EditedWeights:
        """Weights in the dtype of those that they replace."""
        return cls({name: w.to(before[name]) for name, w in weights.items()})

    @property
    def nbytes(self) -> int:
        return nbytes(self.weights)

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        return loaded(pipe.unet, self.weights)


def cross_attention(unet: nn.Module) -> dict[str, Tensor]:
    """W0: weights [out, d] of every to_k and to_v that reads the prompt, by name.

    Raises:
        SnceError: there are none.
    """
    found = {
        name: parameter.detach()
        for name, parameter in unet.named_parameters()
        if name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight"))
    }
    if not found:
        raise SnceError(f"{type(unet).__name__} has no cross-attention (attn2.to_k, attn2.to_v) to edit")
    return found


def erased_and_guide(tower: TextTower, names: Sequence[str], guide: str, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """c and g of `UCE`, row by row, both [n, d] in float64."""
    goal = _from_last_token(tower, guide, tokens)
    rows, goals = [], []
    for name in names:
        c = _from_last_token(tower, name, tokens)
        n = min(len(c), len(goal))  # padding at the far end has no partner where one prompt is longer
        rows.append(c[:n])
        goals.append(goal[:n])
    return torch.cat(rows), torch.cat(goals)


def _from_last_token(tower: TextTower, prompt: str, tokens: Tokens) -> Tensor:
    data = harvest(tower, [prompt])
    last = int((data.kinds[0] <= WORD).sum()) - 1
    return data.x[0, last : None if tokens == "all" else last + 1].double().cpu()


def closed_form(
    weights: dict[str, Tensor],
    c: Tensor,
    guide: Tensor,
    preserve: Tensor,
    erase_weight: float,
    preserve_weight: float,
    regularisation: float,
) -> dict[str, Tensor]:
    """The minimum of `UCE`'s objective for each weight W0 [out, d], in float64.

    The paper's eq. 7, W = (l W0 + e sum W0 g c^T + p sum W0 c_j c_j^T) A^-1 with A = l I + e sum c c^T + p sum c_j
    c_j^T, written as a change of W0: W = W0 + e W0 sum (g - c) c^T A^-1. A is the same for all weights, so one solve
    serves all.

    Args:
        c: what is erased, [n, d].
        guide: what it turns into, [n, d].
        preserve: what stays, [m, d].
    """
    c, guide, preserve = c.double(), guide.double(), preserve.double()
    a = regularisation * torch.eye(c.shape[1], dtype=torch.float64)
    a = a + erase_weight * c.T @ c + preserve_weight * preserve.T @ preserve
    turn = erase_weight * (guide - c).T @ torch.linalg.solve(a, c.T).T  # [d, d]
    return {name: w.double().cpu() + w.double().cpu() @ turn for name, w in weights.items()}
