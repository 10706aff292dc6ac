"""Step 6: train the judge on augmented renderings, one object or two, with blur and noise as a denoiser leaves them.

A third of its pictures have been through the autoencoder, with noise on the latents: whatever Emblem draws comes out of
that decoder, and a judge that knew only clean renderings would take its blur for another object or style. It never sees
a picture that Emblem drew.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from snce import checkpoint
from snce.emblem.judge import JudgeNet
from snce.storage import write_tensors
from snce.text.fingerprint import weights_fingerprint

from . import pool
from .examples import ExampleSource
from .paths import AUTOENCODER, JUDGE
from .render import BACKGROUNDS, Renderer
from .schedule import trapezoid

BATCH = 96
PAIR_SHARE = 0.5
DECODED_SHARE = 1 / 3
DECODED_PICTURES = 40_000
LATENT_NOISE = 0.2
"""Largest noise on decoded latents, whose own deviation is 1."""


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


@dataclass(frozen=True)
class Decoded:
    """Pictures that went through the autoencoder."""

    pictures: Tensor
    """uint8 [n, 3, 64, 64]."""
    objects: Tensor
    """[n, 2] indices; twice the same for a single object."""
    styles: Tensor
    """[n]."""

    def draw(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        i = torch.randint(len(self.pictures), (n,), generator=rng)
        return self.pictures[i].float() / 255, self.objects[i], self.styles[i]


@torch.no_grad()
def decode(r: Renderer) -> Decoded:
    """Pictures of the UNet's pool as the autoencoder gives them back, held-out pairs left out; made once."""
    _, layouts, _ = pool.draw_examples(ExampleSource(r, pool.PAIR_SHARE, pool.STYLE_NAMED))
    left = torch.tensor([e.left for e in layouts])
    right = torch.tensor([e.left if e.right is None else e.right for e in layouts])
    single = torch.tensor([e.right is None for e in layouts])
    shown = (single | ~pair_is_held_out(r.object[left], r.object[right])).nonzero()[:DECODED_PICTURES, 0]
    vae = AutoencoderKL.from_pretrained(AUTOENCODER).to(memory_format=torch.channels_last).eval()
    path = JUDGE / "decoded.safetensors"
    stamp = pool.digest(weights_fingerprint(vae), repr(layouts), str((DECODED_PICTURES, LATENT_NOISE)))
    if not pool.is_made(path, stamp):
        rng = torch.Generator().manual_seed(4)
        latents = load_file(pool.PICTURES_FILE)["latents"][shown]
        out = []
        for part in track(latents.split(128), "decoded"):
            z = part.float()
            z = z + LATENT_NOISE * torch.rand(len(z), 1, 1, 1, generator=rng) * torch.randn(z.shape, generator=rng)
            z = (z / vae.config.scaling_factor).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                x = vae.decode(z).sample.float()
            out.append(((x + 1) * 127.5).round().clamp(0, 255).byte().contiguous())
        pool.write(path, {"pictures": torch.cat(out)}, stamp)
    objects = torch.stack([r.object[left[shown]], r.object[right[shown]]], 1)
    return Decoded(load_file(path)["pictures"], objects, r.style[left[shown]])


def batch(r: Renderer, decoded: Decoded, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures [b, 3, 64, 64], objects as multi-hot [b, objects], style index [b]."""
    rendered = round(BATCH * (1 - DECODED_SHARE))
    pairs = round(rendered * PAIR_SHARE)
    singles = rendered - pairs
    icon = torch.randint(len(r), (singles,), generator=rng)
    left, right = same_style_pairs(r, pairs, rng)
    keep = ~pair_is_held_out(r.object[left], r.object[right])
    left, right = left[keep], right[keep]
    decoded_pictures, decoded_objects, decoded_styles = decoded.draw(BATCH - rendered, rng)

    def background(n: int) -> Tensor:
        return torch.randint(len(BACKGROUNDS), (n,), generator=rng)

    fixed, half = singles // 3, len(left) // 2  # a third of them, and half of the pairs, in the layout of Emblem
    pictures = torch.cat(
        [
            r.single(icon[:fixed], background(fixed)),
            r.augmented(icon[fixed:], None, background(singles - fixed), rng),
            r.pair(left[:half], right[:half], background(half)),
            r.augmented(left[half:], right[half:], background(len(left) - half), rng),
            decoded_pictures,
        ]
    )
    shown = torch.cat([torch.stack([r.object[a], r.object[b]], 1) for a, b in ((icon, icon), (left, right))])
    target = torch.zeros(len(pictures), len(r.names)).scatter_(1, torch.cat([shown, decoded_objects]), 1.0)
    return spoil(pictures, rng), target, torch.cat([r.style[icon], r.style[left], decoded_styles])


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
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--decay", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    r = Renderer()
    decoded = decode(r)
    net = JudgeNet(len(r.names), len(r.vocabulary["styles"])).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=1e-2)
    path = JUDGE / "checkpoint.safetensors"
    start = checkpoint.load(path, {"net": net}, {"optimizer": optimizer})
    for step in track(range(start, args.steps), "judge"):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * trapezoid(step, args.steps, args.decay, warmup=200)
        pictures, target, style = batch(r, decoded, checkpoint.generator(3, step))
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
