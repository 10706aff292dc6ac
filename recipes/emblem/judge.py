"""Step 6: train the judge on augmented renderings, one object or two, with blur and noise as a denoiser leaves them."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from snce import checkpoint
from snce.emblem.judge import JudgeNet
from snce.storage import write_tensors

from .paths import JUDGE
from .render import BACKGROUNDS, Renderer
from .schedule import cosine

BATCH = 96
PAIR_SHARE = 0.5


def pair_is_held_out(left: Tensor, right: Tensor) -> Tensor:
    """A fifth of all ordered pairs of objects is never shown to the judge in training."""
    return (left * 7919 + right * 104729) % 5 == 0


def spoil(x: Tensor, rng: torch.Generator) -> Tensor:
    """Blur and noise of random strength, on half of the pictures each."""
    b = len(x)
    blurred = F.avg_pool2d(F.pad(x, [1] * 4, mode="replicate"), 3, 1)
    amount = torch.rand(b, 1, 1, 1, generator=rng) * (torch.rand(b, 1, 1, 1, generator=rng) < 0.5)
    x = x + amount * (blurred - x)
    sigma = 0.08 * torch.rand(b, 1, 1, 1, generator=rng) * (torch.rand(b, 1, 1, 1, generator=rng) < 0.5)
    x = x + sigma * torch.randn(x.shape, generator=rng)
    contrast = 1 + 0.2 * (torch.rand(b, 3, 1, 1, generator=rng) - 0.5)
    return ((x - 0.5) * contrast + 0.5).clamp(0, 1)


def batch(r: Renderer, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures [b, 3, 64, 64], objects as multi-hot [b, objects], style index [b]."""
    pairs = round(BATCH * PAIR_SHARE)
    singles = BATCH - pairs
    icon = torch.randint(len(r), (singles,), generator=rng)
    left, right = same_style_pairs(r, pairs, rng)
    keep = ~pair_is_held_out(r.object[left], r.object[right])
    left, right = left[keep], right[keep]

    def background(n: int) -> Tensor:
        return torch.randint(len(BACKGROUNDS), (n,), generator=rng)

    fixed, half = singles // 3, len(left) // 2  # a third of them, and half of the pairs, in the layout of Emblem
    pictures = torch.cat(
        [
            r.single(icon[:fixed], background(fixed)),
            r.augmented(icon[fixed:], None, background(singles - fixed), rng),
            r.pair(left[:half], right[:half], background(half)),
            r.augmented(left[half:], right[half:], background(len(left) - half), rng),
        ]
    )
    target = torch.zeros(len(pictures), len(r.names))
    target[torch.arange(singles), r.object[icon]] = 1
    rows = torch.arange(singles, len(pictures))
    target[rows, r.object[left]] = 1
    target[rows, r.object[right]] = 1
    return spoil(pictures, rng), target, torch.cat([r.style[icon], r.style[left]])


def same_style_pairs(r: Renderer, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """n pairs of icons [n], [n] of different objects in one style."""
    left = torch.randint(len(r), (n,), generator=rng)
    order = torch.argsort(r.style, stable=True)
    count = torch.bincount(r.style)
    start = count.cumsum(0) - count
    style = r.style[left]
    right = order[start[style] + (torch.rand(n, generator=rng) * count[style]).long()]
    different = r.object[left] != r.object[right]
    return left[different], right[different]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6500)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    r = Renderer()
    net = JudgeNet(len(r.names), len(r.vocabulary["styles"])).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=1e-2)
    path = JUDGE / "checkpoint.safetensors"
    start = checkpoint.load(path, {"net": net}, {"optimizer": optimizer})
    for step in track(range(start, args.steps), "judge"):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * cosine(step, args.steps, warmup=200)
        pictures, target, style = batch(r, checkpoint.generator(3, step))
        with torch.autocast("cpu", torch.bfloat16):
            objects, styles = net(pictures.contiguous(memory_format=torch.channels_last))
        objects, styles = objects.float(), styles.float()
        presence = F.binary_cross_entropy_with_logits(objects, target, reduction="none").sum(1).mean()
        loss = presence + F.cross_entropy(styles, style)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            hit = target.gather(1, objects.argmax(1, keepdim=True)).mean()
            style_hit = (styles.argmax(1) == style).float().mean()
            print(f"step {step + 1} loss {loss:.3f} object {hit:.3f} style {style_hit:.3f}", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            checkpoint.save(path, step + 1, {"net": net}, {"optimizer": optimizer})
    half = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    write_tensors(JUDGE / "judge.safetensors", half, {"format": "pt"})


if __name__ == "__main__":
    main()
