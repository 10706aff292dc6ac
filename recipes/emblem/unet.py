"""Step 5b: the denoiser: a small UNet2DConditionModel on 8 x 8 latents, v-prediction on a cosine schedule.

The rate is constant after warm-up and falls linearly over the last `--decay` steps, so that a run can be prolonged from
its last checkpoint; what is shipped is the exponential moving average. Two processes are faster than two threads:

    torchrun --standalone --nproc-per-node 2 -m recipes.emblem.unet
"""

from __future__ import annotations

import argparse
import copy
import time

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from rich.progress import track

from snce import checkpoint

from . import parallel, pool
from .autoencoder import LATENT_CHANNELS
from .muon import Muon, split_parameters
from .paths import UNET
from .schedule import trapezoid
from .text_encoder import WIDTH

BATCH = 192
DROPPED_CAPTIONS = 0.1
EMA = 0.9995
WARMUP = 300


def make() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(128, 256),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # in diffusers this is the number of heads
    )


def make_noise_schedule() -> DDPMScheduler:
    return DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=7_500)
    parser.add_argument("--decay", type=int, default=1_500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--name", default="checkpoint", help="checkpoint file, without its ending")
    args = parser.parse_args()
    rank, world = parallel.start()
    torch.manual_seed(0)
    data = pool.load()
    latents, index, captions, null = data["latents"], data["index"], data["captions"], data["null"]
    noise_schedule = make_noise_schedule()
    unet = make().to(memory_format=torch.channels_last)
    ema = copy.deepcopy(unet).requires_grad_(False)
    matrices, rest = split_parameters(unet, ("conv_in", "conv_out", "time_embedding"))
    optimizers = {
        "muon": Muon(matrices, args.lr, weight_decay=0.01, rank=rank, world=world),
        "adam": torch.optim.AdamW(rest, args.lr, betas=(0.9, 0.99), weight_decay=0.0),
    }
    path = UNET / f"{args.name}.safetensors"
    modules = {"unet": unet, "ema": ema}
    start = checkpoint.load(path, modules, optimizers)
    running, since = 0.0, time.monotonic()
    for step in track(range(start, args.steps), "unet", disable=rank > 0):
        rng = checkpoint.generator(5, step)
        chosen = torch.randint(len(index), (BATCH,), generator=rng)
        dropped = torch.rand(BATCH, generator=rng) < DROPPED_CAPTIONS
        t = torch.randint(1000, (BATCH,), generator=rng)
        noise = torch.randn(BATCH, *latents.shape[1:], generator=rng)
        chosen, dropped, t, noise = (x[rank::world] for x in (chosen, dropped, t, noise))  # this process's share
        noise = noise.contiguous(memory_format=torch.channels_last)
        clean = latents[index[chosen]].float().contiguous(memory_format=torch.channels_last)
        condition = captions[chosen].float()
        condition[dropped] = null.float()
        noisy = noise_schedule.add_noise(clean, noise, t)
        target = noise_schedule.get_velocity(clean, noise, t)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noisy, t, condition).sample
        loss = F.mse_loss(predicted.float(), target)
        rate = args.lr * trapezoid(step, args.steps, args.decay, WARMUP)
        parallel.descend(loss, unet, optimizers, rate, world)
        with torch.no_grad():
            blend = min(EMA, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(ema.parameters()), list(unet.parameters()), 1 - blend)
        running += loss.item()
        if rank > 0:
            continue
        if (step + 1) % 100 == 0:
            speed = 100 * BATCH / (time.monotonic() - since)
            print(f"step {step + 1} loss {running / 100:.4f} {speed:.0f} pictures/s", flush=True)
            running, since = 0.0, time.monotonic()
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            checkpoint.save(path, step + 1, modules, optimizers)
            ema.save_pretrained(UNET / "model")
    if rank == 0:
        ema.save_pretrained(UNET / "model")  # also where a kill fell between the two at the last step


if __name__ == "__main__":
    main()
