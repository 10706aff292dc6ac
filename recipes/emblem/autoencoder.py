"""Step 3: the autoencoder: 64 x 64 pictures <-> 8 x 8 latents (diffusers' AutoencoderKL, factor 8).

Few channels at full resolution, where the time goes. L1 on pixels and on their gradients (edges carry an icon), and a
KL term near its weight in the evidence bound, so that the decoder forgives small errors of the denoiser. It bounds all
that Emblem can draw: what is lost here no denoiser brings back. On two cores:

    torchrun --standalone --nproc-per-node 2 -m recipes.emblem.autoencoder
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from rich.progress import track
from torch import Tensor

from snce import checkpoint

from . import parallel
from .muon import Muon, split_parameters
from .paths import AUTOENCODER
from .render import BACKGROUNDS, Renderer
from .schedule import trapezoid

CHANNELS = (16, 32, 96, 192)
LATENT_CHANNELS = 12
KL_WEIGHT = 1e-3
EDGE_WEIGHT = 0.5
BATCH = 64
WARMUP = 100


def make() -> AutoencoderKL:
    n = len(CHANNELS)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def batch(renderer: Renderer, allowed: Tensor, rng: torch.Generator, size: int) -> Tensor:
    """Half pairs (small, so harder), a third single icons, the rest freely placed: [size, 3, 64, 64] in [-1, 1]."""

    def icons(n: int) -> Tensor:
        return allowed[torch.randint(len(allowed), (n,), generator=rng)]

    def background(n: int) -> Tensor:
        named = torch.randint(len(BACKGROUNDS), (n,), generator=rng)
        return torch.where(torch.rand(n, generator=rng) < 0.5, 0, named)

    singles, pairs = size // 3, size // 2
    free = size - singles - pairs
    pictures = [
        renderer.single(icons(singles), background(singles)),
        renderer.pair(icons(pairs), icons(pairs), background(pairs)),
        renderer.augmented(icons(free), None, background(free), rng),
    ]
    return (torch.cat(pictures) * 2 - 1).contiguous(memory_format=torch.channels_last)


def edges(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical gradients."""
    dx = (x.diff(dim=3) - y.diff(dim=3)).abs().mean()
    return dx + (x.diff(dim=2) - y.diff(dim=2)).abs().mean()


def loss(vae: AutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample.float()
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    mse = F.mse_loss(y, x).detach()
    return F.l1_loss(y, x) + EDGE_WEIGHT * edges(y, x) + KL_WEIGHT * kl, mse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--decay", type=int, default=1000)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    rank, world = parallel.start()
    torch.manual_seed(0)
    renderer, vae = Renderer(), make().to(memory_format=torch.channels_last)
    allowed = (~renderer.held_out).nonzero()[:, 0]
    matrices, rest = split_parameters(vae, ("encoder.conv_in", "decoder.conv_out"))
    optimizers = {
        "muon": Muon(matrices, args.lr, weight_decay=1e-2, rank=rank, world=world),
        "adam": torch.optim.AdamW(rest, args.lr, betas=(0.9, 0.99), weight_decay=0.0),
    }
    path = AUTOENCODER / "checkpoint.safetensors"
    start = checkpoint.load(path, {"vae": vae}, optimizers)
    running, since = 0.0, time.monotonic()
    for step in track(range(start, args.steps), "autoencoder", disable=rank > 0):
        rng = checkpoint.generator(1, step * world + rank)
        torch.manual_seed(step * world + rank)
        value, mse = loss(vae, batch(renderer, allowed, rng, BATCH // world))
        rate = args.lr * trapezoid(step, args.steps, args.decay, WARMUP)
        parallel.descend(value, vae, optimizers, rate, world)
        running += mse.item()
        if rank > 0:
            continue
        if (step + 1) % 100 == 0:
            psnr = -10 * torch.log10(torch.tensor(running / 100 / 4)).item()  # pictures span 2
            speed = 100 * BATCH / (time.monotonic() - since)
            print(f"step {step + 1} loss {value.item():.4f} psnr {psnr:.2f} dB {speed:.0f} pictures/s", flush=True)
            running, since = 0.0, time.monotonic()
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            checkpoint.save(path, step + 1, {"vae": vae}, optimizers)
    if rank == 0:
        save(vae.eval(), renderer, allowed)


@torch.no_grad()
def save(vae: AutoencoderKL, renderer: Renderer, allowed: Tensor) -> None:
    """Write the model, with the scale that gives its latents unit variance."""
    x = torch.cat([batch(renderer, allowed, checkpoint.generator(2, i), 32) for i in range(16)])
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(64)])
    vae.register_to_config(scaling_factor=1 / latents.std().item())
    vae.save_pretrained(AUTOENCODER)


if __name__ == "__main__":
    main()
