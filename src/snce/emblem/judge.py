"""The judge: which objects a picture shows, and in which style. Trained on renderings only, never on samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    """Residual block with batch norm, halving the resolution where `stride` is 2."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.skip = nn.Conv2d(inside, outside, 1, stride, bias=False) if stride > 1 or inside != outside else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(h + (x if self.skip is None else self.skip(x)))


class JudgeNet(nn.Module):
    """A small ResNet. Pictures [b, 3, 64, 64] in [0, 1] -> object logits [b, objects], style logits [b, styles]."""

    def __init__(self, objects: int, styles: int, width: int = 32):
        super().__init__()
        w = width
        self.stem = nn.Sequential(nn.Conv2d(3, w, 5, 2, 2, bias=False), nn.BatchNorm2d(w), nn.ReLU())
        self.blocks = nn.Sequential(
            _Block(w, w, 1), _Block(w, 2 * w, 2), _Block(2 * w, 2 * w, 1), _Block(2 * w, 4 * w, 2),
            _Block(4 * w, 4 * w, 1), _Block(4 * w, 6 * w, 2),
        )  # fmt: skip
        self.objects = nn.Linear(6 * w, objects)
        self.styles = nn.Linear(6 * w, styles)
        nn.init.constant_(self.objects.bias, -6.0)  # an object is in one picture of several hundred

    def features(self, x: Tensor) -> Tensor:
        """[b, 6 * width]."""
        return self.blocks(self.stem(x * 2 - 1)).mean((2, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(x)
        return self.objects(h), self.styles(h)


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in a batch of pictures."""

    objects: Tensor
    """Probability that each object is shown, [b, objects]."""
    styles: Tensor
    """Probability of each style, [b, styles]; sums to one."""


class Judge:
    """The trained judge with its class names."""

    def __init__(self, net: JudgeNet, objects: list[str], styles: list[str]):
        self.net = net.eval()
        self.objects = objects
        self.styles = styles

    @torch.no_grad()
    def features(self, pictures: Tensor, batch: int = 128) -> Tensor:
        """[n, width] of pictures [n, 3, 64, 64] in [0, 1]: the space in which Fréchet distances are taken."""
        return torch.cat([self.net.features(part) for part in pictures.split(batch)])

    @torch.no_grad()
    def of_features(self, features: Tensor) -> Verdict:
        """The verdict on pictures with these features [n, width]."""
        return Verdict(self.net.objects(features).sigmoid(), self.net.styles(features).softmax(1))

    def __call__(self, pictures: Tensor, batch: int = 128) -> Verdict:
        """pictures: [n, 3, 64, 64] in [0, 1]."""
        return self.of_features(self.features(pictures, batch))
