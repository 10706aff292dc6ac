"""Training a sparse autoencoder on token embeddings."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor

from snce import checkpoint as checkpoints
from snce.errors import SnceError
from snce.sae.batches import digest, draw_positions, with_content
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.gradients import backward
from snce.sae.initial import initialise
from snce.sae.loss import reconstruction_loss
from snce.sae.metrics import SAEMetrics, measure
from snce.sae.model import SparseAutoencoder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snce.text.harvest import Embeddings


_HELD_OUT = "the embeddings of the prompts that are held out for the metrics hold NaN or infinity"


class TrainResult(NamedTuple):
    sae: SparseAutoencoder
    """On the CPU, in evaluation mode, without gradients; its thresholds are not calibrated."""
    metrics: SAEMetrics


class Step(NamedTuple):
    done: int
    """Steps so far."""
    sae: SparseAutoencoder
    """As it is; the next step changes it."""
    loss: float


def train_sae(
    data: Embeddings,
    config: SAEConfig,
    train: TrainConfig = TrainConfig(),
    checkpoint: Path | None = None,
    progress: bool = False,
    device: str | torch.device = "cpu",
) -> TrainResult:
    """Train an SAE on `data`.

    Args:
        checkpoint: file to save the state to every 200 steps and to resume from. A resumed training ends in the same
            bits as one that was not interrupted, on the same machine with the same number of threads.
        device: where to train; the embeddings stay where they are, and the SAE comes back to the CPU.

    Raises:
        SnceError: widths or nested sizes that do not fit, an activation that is only imported, no prompts with content,
            NaN or infinity among the embeddings, a loss that is not finite, or another training's checkpoint.
    """
    fit, test = split(data, train)
    if not all(torch.isfinite(data.x[rows]).all() for rows in test[:4096].split(32)):  # now, and not after hours
        raise SnceError(_HELD_OUT)
    with Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("sparse autoencoder", total=train.steps)
        steps = train_steps(data, config, train, checkpoint, device)
        now = next(steps)
        bar.update(task, completed=now.done)
        for now in steps:
            bar.update(task, completed=now.done, description=f"sparse autoencoder (loss {now.loss:.3f})")
    sae = now.sae.cpu().eval().requires_grad_(False)
    metrics = measure(sae, data, test if len(test) else fit, fit)
    if not math.isfinite(metrics.fvu):
        raise SnceError(_HELD_OUT)
    return TrainResult(sae, metrics)


def split(data: Embeddings, train: TrainConfig) -> tuple[Tensor, Tensor]:
    """Prompts to train on and prompts held out for the metrics, as rows of `data`; of a single prompt none is.

    Prompts without content are in neither.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(train.seed))
    n_test = min(len(data) - 1, max(1, round(train.held_out * len(data)))) if len(data) > 1 else 0
    return with_content(data, order[n_test:]), with_content(data, order[:n_test])


def train_steps(
    data: Embeddings,
    config: SAEConfig,
    train: TrainConfig,
    checkpoint: Path | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[Step]:
    """The training itself, step by step, from the state before the first step, or that of the checkpoint. Arguments and
    errors are those of `train_sae`."""
    _check(data, config, train)
    fit, _ = split(data, train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        sae = SparseAutoencoder(config)
    alone = _codes_positions_alone(config, train, data.x.shape[1])
    initialise(sae, data, fit[:4096], checkpoints.generator(train.seed, -1), fitted=alone)
    silence = _Silence(config.latents).to(device)
    optimizer = torch.optim.Adam(sae.to(device).parameters(), lr=train.lr, betas=(0.9, 0.99), fused=alone)
    state = {"sae": sae, "silence": silence}
    purpose = f"SAE {asdict(config)} {asdict(train)} on {len(data)} prompts {digest(data)}"
    start = checkpoints.load(checkpoint, state, {"adam": optimizer}, purpose) if checkpoint else 0
    yield Step(start, sae, float("nan"))
    for step in range(start, train.steps):
        rng = checkpoints.generator(train.seed, step)
        rows = fit[torch.randint(len(fit), (train.batch,), generator=rng)]
        x, kinds = draw_positions(data, rows, train.padding, rng)
        for group in optimizer.param_groups:
            group["lr"] = train.lr * _rate(step, train.steps)
        x, kinds = x.to(device), kinds.to(device)
        if alone:
            loss = backward(sae, x, kinds, silence.steps, train.aux_k, train.aux_weight, train.dead_after)
        else:
            loss = reconstruction_loss(sae, x, kinds, silence.steps, train)
            optimizer.zero_grad()
            loss.backward()
            sae.project_gradient()
        if not torch.isfinite(loss):
            raise SnceError(
                "the loss is not finite: the embeddings hold NaN or infinity, or the learning rate is too high"
            )
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        sae.normalise_decoder()
        if checkpoint and ((step + 1) % 200 == 0 or step + 1 == train.steps):
            checkpoints.save(checkpoint, step + 1, state, {"adam": optimizer}, purpose)
        yield Step(step + 1, sae, loss.item())


def _check(data: Embeddings, config: SAEConfig, train: TrainConfig) -> None:
    if data.x.shape[-1] != config.width:
        raise SnceError(f"the SAE has width {config.width}, the embeddings have {data.x.shape[-1]}")
    if config.activation == "jumprelu":
        raise SnceError("jumprelu SAEs are imported, not trained here; train with activation 'topk' or 'batchtopk'")
    if not all(0 < n < config.latents for n in train.nested):
        raise SnceError(f"nested = {train.nested} must lie between 1 and the number of latents, {config.latents}")


class _Silence(torch.nn.Module):
    """Steps since each latent was last active, as a module so that checkpoints hold it."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(latents, dtype=torch.int64))
        self.steps: Tensor


def _codes_positions_alone(config: SAEConfig, train: TrainConfig, positions: int) -> bool:
    """Whether every row of k latents serves one position only: then all but one product of a step is sparse.

    BatchTopK has rows of different length, and the latents of a nested reconstruction are no fixed number.
    """
    plain = config.activation == "topk" and not train.nested
    return plain and (config.support == "position" or positions == 1)


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / (0.05 * steps), (steps - step) / (0.3 * steps))
