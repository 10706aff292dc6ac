"""Compose training pictures from rasterised icons: one object, or two side by side, on a plain background."""

from __future__ import annotations

import json
from functools import cached_property

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from .paths import ICONS, VOCABULARY

SIZE = 64
SINGLE = 56
"""Side of a single icon, centred."""
HALF = 32
"""Side of each icon of a pair: left and right, vertically centred; multiples of the autoencoder's factor 8."""

BACKGROUNDS = {
    "white": (255, 255, 255),
    "blue": (176, 212, 255),
    "green": (186, 235, 190),
    "yellow": (255, 240, 160),
    "pink": (255, 200, 215),
    "purple": (214, 196, 250),
    "grey": (200, 200, 200),
}
UNSEEN_BACKGROUNDS = {"teal": (150, 220, 215), "peach": (255, 215, 180), "khaki": (220, 215, 165)}
"""For testing the judge only."""
PALETTE = {**BACKGROUNDS, **UNSEEN_BACKGROUNDS}


class Renderer:
    """All icons in memory; every method returns float pictures [b, 3, 64, 64] in [0, 1]."""

    def __init__(self) -> None:
        data = load_file(ICONS)
        self.rgba, self.object, self.style = data["rgba"], data["object"], data["style"]
        self.vocabulary = json.loads(VOCABULARY.read_text())
        self.names = list(self.vocabulary["objects"])
        held_out = {tuple(pair) for pair in self.vocabulary["held_out"]}
        styles = self.vocabulary["styles"]
        self.held_out = torch.tensor(
            [(self.names[o], styles[s]) in held_out for o, s in zip(self.object, self.style, strict=True)]
        )
        """bool [icons]: the object-style combinations that only the judge may see."""
        self.palette = torch.tensor(list(PALETTE.values())) / 255

    def __len__(self) -> int:
        return len(self.rgba)

    def _resized(self, side: int) -> Tensor:
        out = [F.interpolate(c.float() / 255, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
               for c in self.rgba.split(256)]  # fmt: skip
        return torch.cat(out).mul(255).round().byte()

    @cached_property
    def _single(self) -> Tensor:
        return self._resized(SINGLE)

    @cached_property
    def _half(self) -> Tensor:
        return self._resized(HALF)

    @cached_property
    def _canvas(self) -> Tensor:
        """Shrunk by area first, so that thin lines survive the sampling of `_moved`."""
        return self._resized(SIZE)

    def _over(self, rgba: Tensor, background: Tensor) -> Tensor:
        colour = self.palette[background][:, :, None, None]
        return (rgba[:, :3] + colour * (1 - rgba[:, 3:])).clamp(0, 1)

    def single(self, icon: Tensor, background: Tensor) -> Tensor:
        """icon, background: [b] indices."""
        margin = (SIZE - SINGLE) // 2
        return self._over(F.pad(self._single[icon].float() / 255, [margin] * 4), background)

    def small(self, icon: Tensor, background: Tensor) -> Tensor:
        """One icon of the size that it has in a pair, in the centre."""
        margin = (SIZE - HALF) // 2
        return self._over(F.pad(self._half[icon].float() / 255, [margin] * 4), background)

    def pair(self, left: Tensor, right: Tensor, background: Tensor) -> Tensor:
        margin = (SIZE - HALF) // 2
        both = torch.cat([self._half[left], self._half[right]], dim=3).float() / 255
        return self._over(F.pad(both, [0, 0, margin, margin]), background)

    def _moved(self, icon: Tensor, scale: Tensor, shift: Tensor, angle: Tensor) -> Tensor:
        """Icons [b, 4, 64, 64] of relative size `scale`, moved by `shift` [b, 2] (canvas units -1..1), turned."""
        cos, sin = angle.cos() / scale, angle.sin() / scale
        theta = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)
        theta = torch.cat([theta, -(theta @ shift[:, :, None])], 2)
        grid = F.affine_grid(theta, [len(icon), 4, SIZE, SIZE], align_corners=False)
        return F.grid_sample(self._canvas[icon].float() / 255, grid, align_corners=False)

    def augmented(self, left: Tensor, right: Tensor | None, background: Tensor, rng: torch.Generator) -> Tensor:
        """Random size, place and small rotation, and a jittered background: for the judge and the image tower."""

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(*shape, generator=rng) * (high - low) + low

        b = len(left)
        if right is None:
            scale = uniform(0.6, 1.0, b)
            rgba = self._moved(left, scale, uniform(-0.15, 0.15, b, 2), uniform(-0.2, 0.2, b))
        else:
            rgba = torch.zeros(b, 4, SIZE, SIZE)
            for icon, side in ((left, -0.5), (right, 0.5)):
                shift = uniform(-0.08, 0.08, b, 2) + torch.tensor([side, 0.0])
                top = self._moved(icon, uniform(0.42, 0.55, b), shift, uniform(-0.15, 0.15, b))
                rgba = top + rgba * (1 - top[:, 3:])
        colour = (self.palette[background] + uniform(-0.06, 0.06, b, 3)).clamp(0, 1)[:, :, None, None]
        return (rgba[:, :3] + colour * (1 - rgba[:, 3:])).clamp(0, 1)
