"""The sparse autoencoder of SAeUron: trained on what one block of the UNet puts out while pictures are drawn."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor, nn

from snce.bench.methods.denoise import check_pipeline, encode, full_precision
from snce.bench.methods.sampling import Sampler
from snce.checkpoint import generator
from snce.errors import SnceError
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.formats import save_sae
from snce.sae.origin import SAEOrigin
from snce.sae.train import SAEMetrics, train_sae
from snce.text.fingerprint import weights_fingerprint
from snce.text.harvest import Embeddings
from snce.text.positions import WORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from snce.sae.model import SparseAutoencoder


@dataclass(frozen=True)
class Sampling:
    """How the pictures are drawn whose activations are read."""

    steps: int = 50
    """Steps of DDIM; the activations of every step are read."""
    guidance: float = 7.5
    """Scale of guidance."""
    batch: int = 16
    """Pictures at a time."""


SAMPLING, TRAINING = Sampling(), TrainConfig(steps=1_500, batch=192, lr=1.5e-3)


@dataclass(frozen=True)
class UNetSAE:
    """An SAE on the output of one block of a UNet."""

    sae: SparseAutoencoder
    block: str
    """Path of the block inside the UNet."""
    sampling: Sampling
    metrics: SAEMetrics | None = field(default=None, compare=False)
    """On held-out activations."""

    def code(self, maps: Tensor) -> Tensor:
        """z [b, h * w, m], float32, of the block's output [b, c, h, w]; every position coded by itself, by TopK."""
        x = maps.flatten(2).transpose(1, 2).float()
        with full_precision(x):
            return self.sae.to(x.device).encode(x, word_positions(x)).activations

    def save(self, folder: str | Path, pipe: Any) -> None:
        """Write folder/sae.safetensors, whole or not at all, as `snce bench --unet-sae` reads it.

        Args:
            pipe: the pipeline that it was trained in: for another UNet it is refused.

        Raises:
            SnceError: a folder that cannot be written.
        """
        metrics = self.metrics._asdict() if self.metrics else {}
        told = {"sampling": asdict(self.sampling)}
        origin = SAEOrigin(weights_fingerprint(pipe.unet), "unet", self.block, type(pipe).__name__, told, metrics)
        save_sae(self.sae, folder, origin)


def word_positions(x: Tensor) -> Tensor:
    """Positions of x [n, p, d] as the SAE knows them: all carry content."""
    return torch.full(x.shape[:2], WORD, dtype=torch.uint8, device=x.device)


def last_cross_attention(unet: nn.Module) -> str:
    """The last block with cross-attention on the way up; for SD 1.x SAeUron reads `up_blocks.1.attentions.1` and `.2`.

    Raises:
        SnceError: there is none.
    """
    found = [
        name
        for name, module in unet.named_modules()
        if name.startswith("up_blocks.") and type(module).__name__ == "Transformer2DModel"
    ]
    if not found:
        raise SnceError(f"{type(unet).__name__} has no cross-attention in its up_blocks")
    return found[-1]


@contextmanager
def reading(unet: nn.Module, block: str) -> Iterator[list[Tensor]]:
    """The block's outputs [b, c, h, w] of all UNet calls inside the block are appended to the list."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen.append(output[0].detach())

    try:
        handle = unet.get_submodule(block).register_forward_hook(hook)
    except AttributeError as error:
        raise SnceError(f"{type(unet).__name__} has no block {block!r}") from error
    try:
        yield seen
    finally:
        handle.remove()


class Read(NamedTuple):
    """Activations of one batch of prompts at one step."""

    step: int
    maps: Tensor
    """Of the conditional half, [b, c, h, w]."""


def activations(
    pipe: Any, prompts: Sequence[str], block: str, sampling: Sampling, seed: int, progress: bool = False
) -> Iterator[Read]:
    """Draw a picture of each prompt, and read the block at every step."""
    sampler = Sampler(pipe, sampling.steps, sampling.guidance)
    rng = generator(seed, 0)
    prompts = list(prompts)
    with Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("activations", total=len(prompts) * sampling.steps)
        for start in range(0, len(prompts), sampling.batch):
            embeddings = encode(pipe, prompts[start : start + sampling.batch])
            x = sampler.start(pipe.unet, len(embeddings), rng)
            for step, t in enumerate(sampler.scheduler.timesteps):
                with reading(pipe.unet, block) as seen:
                    x = sampler.step(pipe.unet, x, t, embeddings)
                yield Read(step, seen[-1].chunk(2)[1])
                bar.update(task, advance=len(embeddings))


def train_unet_sae(
    pipe: Any,
    prompts: Sequence[str],
    block: str = "",
    latents: int = 2048,
    k: int = 32,
    sampling: Sampling = SAMPLING,
    training: TrainConfig = TRAINING,
    positions: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> UNetSAE:
    """Train the SAE that SAeUron edits by: once for a model, for all concepts (arXiv 2501.18052: BatchTopK, k = 32, 16
    times as many latents as channels).

    Args:
        prompts: with and without the concepts to come; one picture of each.
        block: path of the block to read; by default the last with cross-attention on the way up.
        positions: places of each map that are kept, at random; 2 bytes x prompts x steps x positions x channels.

    Raises:
        SnceError: a pipeline of another kind, no such block, or no prompts.
    """
    check_pipeline(pipe)
    if not prompts:
        raise SnceError("an SAE needs prompts to be trained on")
    block = block or last_cross_attention(pipe.unet)
    rows, rng = [], generator(seed, 1)
    for read in activations(pipe, prompts, block, sampling, seed, progress):
        x = read.maps.flatten(2).transpose(1, 2)
        places = torch.rand(x.shape[:2], generator=rng).topk(min(positions, x.shape[1])).indices.to(x.device)
        rows.append(x.gather(1, places[..., None].expand(-1, -1, x.shape[-1])).half().cpu())
    x = torch.cat(rows)
    config = SAEConfig(x.shape[-1], latents, k, support="position", activation="batchtopk")
    result = train_sae(Embeddings(x, word_positions(x)), config, replace(training, seed=seed), progress=progress)
    return UNetSAE(result.sae, block, sampling, result.metrics)


def mean_codes(pipe: Any, sae: UNetSAE, prompts: Sequence[str], seed: int, progress: bool = False) -> Tensor:
    """mu(i, t): mean activation of each latent at each step, over pictures of `prompts` and places, [steps, m]."""
    total = torch.zeros(sae.sampling.steps, sae.sae.config.latents, device=pipe.unet.device)
    for read in activations(pipe, prompts, sae.block, sae.sampling, seed, progress):
        total[read.step] += sae.code(read.maps).mean(1).sum(0)
    return total / len(prompts)
