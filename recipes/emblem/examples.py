"""Training examples of the text encoder and the UNet: icons, a background, and a caption that describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.emblem import captions

from .render import BACKGROUNDS, Renderer

if TYPE_CHECKING:
    from random import Random

PAIR_SHARE = 0.35
ANCHOR_SHARE = 0.04
STYLE_NAMED = 0.75
BACKGROUND_NAMED = 0.5
SYNONYM_SHARE = 0.25
_BACKGROUND_INDEX = {name: i for i, name in enumerate(BACKGROUNDS)}


@dataclass(frozen=True)
class Example:
    left: int
    right: int | None
    """Icon indices; `right` is None where one object is alone."""
    background: int
    caption: str = ""
    names_objects: bool = True
    names_style: bool = True
    names_background: bool = True


class ExampleSource:
    """Draws examples from the icons that are not held out.

    `pair_share` of them show two objects; `style_named` of the captions name the style.
    """

    def __init__(self, renderer: Renderer, pair_share: float = PAIR_SHARE, style_named: float = STYLE_NAMED):
        self.renderer = renderer
        self.pair_share = pair_share
        self.style_named = style_named
        self.styles: list[str] = renderer.vocabulary["styles"]
        allowed = (~renderer.held_out).nonzero()[:, 0].tolist()
        self.icons: list[int] = allowed
        self.by_style = [[i for i in allowed if renderer.style[i] == s] for s in range(len(self.styles))]

    def _word(self, icon: int, rng: Random) -> str:
        name = self.renderer.names[int(self.renderer.object[icon])]
        synonyms = self.renderer.vocabulary["objects"][name]["synonyms"]
        return rng.choice(synonyms) if synonyms and rng.random() < SYNONYM_SHARE else name

    def layout(self, rng: Random) -> tuple[int, int | None, int, str | None]:
        """(left, right, background, background's name as the caption gives it: None where it is silent and white)."""
        left = rng.choice(self.icons)
        right = None
        if rng.random() < self.pair_share:
            mates = self.by_style[int(self.renderer.style[left])]
            right = rng.choice(mates)
            while self.renderer.object[right] == self.renderer.object[left]:
                right = rng.choice(mates)
        named = rng.choice(list(BACKGROUNDS)) if rng.random() < BACKGROUND_NAMED else None
        return left, right, _BACKGROUND_INDEX[named or "white"], named

    def draw(self, rng: Random) -> Example:
        left, right, background, named = self.layout(rng)
        style = self.styles[int(self.renderer.style[left])] if rng.random() < self.style_named else None
        anchor = right is None and rng.random() < ANCHOR_SHARE / (1 - self.pair_share)
        if right is not None:
            caption = captions.pair(self._word(left, rng), self._word(right, rng), rng, style, named)
        elif anchor:
            caption = captions.anchor(rng, style, named)
        else:
            caption = captions.single(self._word(left, rng), rng, style, named)
        return Example(left, right, background, caption, not anchor, style is not None, named is not None)

    def pictures(self, examples: list[Example], small: bool = False) -> Tensor:
        """[b, 3, 64, 64] in [0, 1], in the order of `examples`; `small` draws single objects as small as in a pair."""
        out = torch.empty(len(examples), 3, 64, 64)
        single = [i for i, e in enumerate(examples) if e.right is None]
        pairs = [i for i, e in enumerate(examples) if e.right is not None]
        background = torch.tensor([e.background for e in examples])
        left = torch.tensor([e.left for e in examples])
        if single:
            draw = self.renderer.small if small else self.renderer.single
            out[single] = draw(left[single], background[single])
        if pairs:
            right = torch.tensor([examples[i].right for i in pairs])
            out[pairs] = self.renderer.pair(left[pairs], right, background[pairs])
        return out
