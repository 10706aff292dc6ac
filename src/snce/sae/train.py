"""Training a sparse autoencoder on token embeddings."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor

from snce import checkpoint as checkpoints
from snce.errors import SnceError
from snce.sae.model import SAEConfig, SparseAutoencoder, top_mask
from snce.text.positions import BEGIN, KINDS, PADDING

if TYPE_CHECKING:
    from pathlib import Path

    from snce.text.harvest import Embeddings


@dataclass(frozen=True)
class TrainConfig:
    """How a sparse autoencoder is trained."""

    steps: int = 4_800
    """Optimiser steps."""
    batch: int = 64
    """Prompts per step."""
    lr: float = 3e-3
    """Peak rate of Adam; a linear warm-up over 5 % of the steps, a linear decay over the last 30 %."""
    padding: int = 2
    """Padding positions drawn per prompt and step: they are many and nearly alike."""
    aux_k: int = 64
    """Dead latents that reconstruct the residual (AuxK of Gao et al. 2024); 0 for none."""
    aux_weight: float = 1 / 32
    """Weight of that loss."""
    dead_after: int = 150
    """Steps of silence after which a latent counts as dead."""
    nested: tuple[int, ...] = ()
    """Matryoshka (Bussmann et al. 2025, arXiv 2503.17547): the first n latents alone must reconstruct too, for each n
    given here, so that the first ones stand for what is common; the loss is the mean over all of these."""
    held_out: float = 0.05
    """Share of the prompts on which the metrics are taken."""
    seed: int = 0
    """Seed of the initial weights and of the batches."""


class SAEMetrics(NamedTuple):
    """Quality of an SAE on held-out prompts."""

    fvu: float
    """Fraction of variance unexplained, over all positions but begin-of-text; words, end and padding weigh alike."""
    l0: float
    """Mean number of active latents: per prompt (prompt code) or per position (position code)."""
    dead: float
    """Share of the latents that never fire on any training prompt."""


class TrainResult(NamedTuple):
    sae: SparseAutoencoder
    metrics: SAEMetrics


def train_sae(
    data: Embeddings,
    config: SAEConfig,
    train: TrainConfig = TrainConfig(),
    checkpoint: Path | None = None,
    progress: bool = False,
) -> TrainResult:
    """Train an SAE on `data`.

    Args:
        checkpoint: file to save the state to every 200 steps and to resume from.

    Raises:
        SnceError: widths or nested sizes that do not fit, an activation that is only imported, NaN among the
            embeddings, or another training's checkpoint.
    """
    if data.x.shape[-1] != config.width:
        raise SnceError(f"the SAE has width {config.width}, the embeddings have {data.x.shape[-1]}")
    if config.activation == "jumprelu":
        raise SnceError("jumprelu SAEs are imported, not trained here; train with activation 'topk' or 'batchtopk'")
    if not all(0 < n < config.latents for n in train.nested):
        raise SnceError(f"nested = {train.nested} must lie between 1 and the number of latents, {config.latents}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(train.seed))
    n_test = max(1, round(train.held_out * len(data))) if len(data) > 1 else 0
    test, fit = order[:n_test], order[n_test:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        sae = SparseAutoencoder(config)
    _initialise(sae, data, fit[:4096], checkpoints.generator(train.seed, -1))
    optimizer = torch.optim.Adam(sae.parameters(), lr=train.lr, betas=(0.9, 0.99))
    silence = _Silence(config.latents)
    state = {"sae": sae, "silence": silence}
    purpose = f"SAE {asdict(config)} {asdict(train)} on {len(data)} prompts {_digest(data)}"
    start = checkpoints.load(checkpoint, state, {"adam": optimizer}, purpose) if checkpoint else 0
    with Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("sparse autoencoder", total=train.steps, completed=start)
        for step in range(start, train.steps):
            rng = checkpoints.generator(train.seed, step)
            rows = fit[torch.randint(len(fit), (train.batch,), generator=rng)]
            x, kinds = _draw_positions(data, rows, train.padding, rng)
            for group in optimizer.param_groups:
                group["lr"] = train.lr * _rate(step, train.steps)
            loss = _loss(sae, x, kinds, silence, train)
            optimizer.zero_grad()
            loss.backward()
            sae.project_gradient()
            torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
            optimizer.step()
            sae.normalise_decoder()
            bar.update(task, advance=1, description=f"sparse autoencoder (loss {loss.item():.3f})")
            if checkpoint and ((step + 1) % 200 == 0 or step + 1 == train.steps):
                checkpoints.save(checkpoint, step + 1, state, {"adam": optimizer}, purpose)
    sae.eval().requires_grad_(False)
    return TrainResult(sae, measure(sae, data, test if n_test else fit, fit))


class _Silence(torch.nn.Module):
    """Steps since each latent was last active, as a module so that checkpoints hold it."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(latents, dtype=torch.int64))
        self.steps: Tensor


def _digest(data: Embeddings) -> str:
    """Tells data sets apart by a sample of their rows: they may be far larger than memory."""
    rows = torch.linspace(0, len(data) - 1, min(64, len(data))).long()
    sample = data.x[rows].float().contiguous()
    return hashlib.sha256(sample.cpu().numpy().tobytes() + data.kinds.cpu().numpy().tobytes()).hexdigest()[:16]


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / (0.05 * steps), (steps - step) / (0.3 * steps))


@torch.no_grad()
def _initialise(sae: SparseAutoencoder, data: Embeddings, rows: Tensor, rng: torch.Generator) -> None:
    """b_dec = mean; scale = root mean square norm of what is left; latents point to embeddings drawn at random.

    A latent that starts where data lie is seldom dead.
    """
    x, kinds = data.x[rows].float(), data.kinds[rows]
    if not torch.isfinite(x).all():
        raise SnceError("the embeddings hold NaN or infinity")
    present = [kind for kind in KINDS if (kinds == kind).any()]
    if not present:
        raise SnceError("the prompts have no token but begin-of-text")
    sae.b_dec.copy_(torch.stack([x[kinds == kind].mean(0) for kind in present]).mean(0))
    centred = x - sae.b_dec
    sae.scale.copy_(kind_mean(centred.square().sum(-1), kinds).sqrt().clamp_min(1e-6))
    pool = torch.cat([centred[kinds == kind][:4096] for kind in present])
    drawn = pool[torch.randint(len(pool), (sae.config.latents,), generator=rng)]
    sae.W_dec.copy_(torch.nn.functional.normalize(drawn + 1e-3 * sae.scale * sae.W_dec, dim=1))
    sae.W_enc.copy_(sae.W_dec)


def _draw_positions(data: Embeddings, rows: Tensor, padding: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """All words, the end and `padding` random padding positions of the prompts; the rest is marked BEGIN: left alone.

    Returns x [n, p, d] and kinds [n, p], p as small as the longest of the prompts allows.
    """
    kinds = data.kinds[rows]
    is_padding = kinds == PADDING
    lottery = torch.rand(kinds.shape, generator=rng).masked_fill(~is_padding, -1)
    drawn = torch.zeros_like(is_padding).scatter_(1, lottery.topk(min(padding, kinds.shape[1])).indices, True)
    kinds = torch.where(is_padding & ~drawn, torch.full_like(kinds, BEGIN), kinds)
    used = kinds != BEGIN
    place = (~used).to(torch.int8).argsort(dim=1, stable=True)[:, : int(used.sum(1).max())]
    x = data.x[rows[:, None], place].float()
    return x, kinds.gather(1, place)


def _loss(sae: SparseAutoencoder, x: Tensor, kinds: Tensor, silence: _Silence, train: TrainConfig) -> Tensor:
    """Fraction of variance unexplained, plus the AuxK term."""
    # A prompt's k latents serve all its positions: gathering their rows is far less than the dense product. A position
    # code would gather k rows for every position, BatchTopK has rows of different length, and the latents of a nested
    # reconstruction are no fixed number: they go the dense way.
    dense = sae.config.support == "position" or sae.config.activation == "batchtopk" or bool(train.nested)
    with torch.set_grad_enabled(dense):
        pre = sae.pre(x, kinds)
    with torch.no_grad():
        strength = sae.strength(pre, kinds)
    smaller = []
    if dense:
        mask = sae.choose(pre, kinds)
        written, fired = _written_densely(sae, pre, mask)
        for n in train.nested:
            smaller.append(_written_densely(sae, pre, mask & (torch.arange(mask.shape[-1], device=x.device) < n))[0])
    else:
        written, fired = _written_sparsely(sae, x, kinds, strength, sae.config.k)
    silence.steps += 1
    silence.steps[fired] = 0
    residual = x - sae.b_dec - written
    loss = torch.stack([fvu(sae, r, kinds) for r in (residual, *(x - sae.b_dec - part for part in smaller))]).mean()
    dead = silence.steps > train.dead_after
    k_aux = min(train.aux_k, int(dead.sum()))
    if k_aux:
        strength = strength * dead
        if dense:
            written, _ = _written_densely(sae, pre, top_mask(strength, k_aux))
        else:
            written, _ = _written_sparsely(sae, x, kinds, strength, k_aux)
        loss = loss + train.aux_weight * fvu(sae, residual.detach() - written, kinds)
    if not torch.isfinite(loss):
        raise SnceError("the loss is not finite: the embeddings hold NaN or infinity, or the learning rate is too high")
    return loss


def _written_densely(sae: SparseAutoencoder, pre: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What the latents in `mask` write without b_dec, in the shape of the embeddings, and which of them fire, [m]."""
    z = pre * mask
    return sae.decode(z) - sae.b_dec, (z > 0).flatten(0, 1).any(0)


def _written_sparsely(
    sae: SparseAutoencoder, x: Tensor, kinds: Tensor, strength: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The same of the k latents of largest `strength`, by their rows alone."""
    code = sae.encode_sparse(x, kinds, strength, k)
    fired = torch.zeros(sae.config.latents, dtype=torch.bool, device=x.device)
    fired[code.latents[(code.activations > 0).any(1)]] = True
    return sae.decode_sparse(code, x.shape), fired


def kind_mean(values: Tensor, kinds: Tensor) -> Tensor:
    """Mean of values [n, positions] over each kind of position, averaged over the kinds that occur."""
    return torch.stack([values[kinds == kind].mean() for kind in KINDS if bool((kinds == kind).any())]).mean()


def fvu(sae: SparseAutoencoder, residual: Tensor, kinds: Tensor) -> Tensor:
    """Fraction of variance unexplained by what leaves `residual` [n, positions, d]."""
    return kind_mean(residual.square().sum(-1), kinds) / sae.scale**2


@torch.no_grad()
def measure(sae: SparseAutoencoder, data: Embeddings, test: Tensor, fit: Tensor, batch: int = 128) -> SAEMetrics:
    """Metrics on the prompts `test`; dead latents counted over the prompts `fit`."""
    unexplained, l0, prompts = 0.0, 0.0, 0
    fired = torch.zeros(sae.config.latents, dtype=torch.bool)
    for part in test.split(batch):
        x, kinds = data.x[part].float(), data.kinds[part]
        z = sae.encode(x, kinds).activations
        unexplained += fvu(sae, x - sae.decode(z), kinds).item() * len(part)
        if sae.config.support == "prompt":
            l0 += (z > 0).any(1).sum().item()
        else:
            l0 += ((z > 0).sum(-1).sum(1) / (kinds != BEGIN).sum(1)).sum().item()
        prompts += len(part)
    for part in fit.split(batch):
        x, kinds = _draw_positions(data, part, 1, checkpoints.generator(0, 0))
        fired |= (sae.encode(x, kinds).activations > 0).any(1).any(0)
    return SAEMetrics(unexplained / prompts, l0 / prompts, 1 - fired.float().mean().item())
