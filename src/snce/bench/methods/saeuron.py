"""SAeUron: an SAE inside the UNet, whose latents of the concept are driven below zero."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from snce.bench.methods.base import Knob, nbytes
from snce.bench.methods.denoise import check_pipeline, full_precision
from snce.bench.methods.hooks import around_denoiser
from snce.bench.methods.prompts import neutral_prompts
from snce.bench.methods.saeuron_sae import SAMPLING, TRAINING, Sampling, UNetSAE, mean_codes, train_unet_sae
from snce.bench.methods.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snce.bench.methods.hooks import Call
    from snce.sae.config import TrainConfig
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class SAeUron:
    """Cywinski & Deja, arXiv 2501.18052. At each sampling step t, the score of latent i for the concept c is

        mu(i, t, c) / sum_j mu(j, t, c) - mu(i, t, not c) / sum_j mu(j, t, not c),

    mu the mean activation over pictures and places. At inference a latent that was chosen for the step, where it is
    above its mean over the concept's and the neutral pictures, becomes gamma * mu(i, t, c) * z, and the SAE's error is
    added back: x' = x + decode(z') - decode(z). Both halves of a guided call are edited, as in the published code.
    Activations are inside the network, so the prediction type does not matter. An inference step uses the statistics
    of the nearest timestep that was harvested.

    mu is in the SAE's units: here activations are divided by the root mean square norm, so that mu is smaller and
    gamma must be larger than where activations are raw. Several concepts: the union of their latents; one that
    several of them chose gets the lowest factor and the lowest of these means.
    """

    name: ClassVar[str] = "saeuron"
    knob: ClassVar[Knob | None] = Knob("gamma", (-1.0, -10.0, -30.0, -60.0, -100.0))

    sae: UNetSAE | None = None
    """Trained by `train_unet_sae`, best on many concepts; None: train one on the prompts of these."""
    gamma: float = -10.0
    """Multiplier; -1 to -30 in the published work."""
    features: int = 2
    """Latents per concept and step: the published percentile 99.99 of 20,480 latents is two."""
    prompts: int = 40
    """Target prompts, and as many neutral ones, over which mu is taken."""
    sampling: Sampling = SAMPLING
    """How pictures are drawn for an SAE that is trained here."""
    latents: int = 2048
    """Latents of an SAE that is trained here."""
    k: int = 32
    """Its active latents per place."""
    training: TrainConfig = TRAINING
    """How it is trained."""
    progress: bool = field(default=False, repr=False, compare=False)
    """Show progress bars."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> SAeUronErasure:
        """Choose the latents of each concept (and train the SAE, if there is none).

        Raises:
            SnceError: a pipeline of another kind, an SAE for a block that it lacks, or no usable neutral prompt.
        """
        check_pipeline(pipe)
        neutrals = neutral_prompts(concepts)
        sae = self.sae
        if sae is None:
            shown = [p for c in concepts for p in c.targets[: self.prompts]] + neutrals[: 4 * self.prompts]
            sae = train_unet_sae(pipe, shown, "", self.latents, self.k, self.sampling, self.training,
                                 seed=seed, progress=self.progress)  # fmt: skip
        without = mean_codes(pipe, sae, neutrals[: self.prompts], seed, self.progress)
        factor = torch.ones_like(without)
        bar = torch.full_like(without, torch.inf)
        for i, concept in enumerate(concepts):
            with_it = mean_codes(pipe, sae, concept.targets[: self.prompts], seed + 1 + i, self.progress)
            chosen = scores(with_it, without).topk(self.features, dim=1).indices
            factor.scatter_reduce_(1, chosen, (self.gamma * with_it).gather(1, chosen), "amin")
            bar.scatter_reduce_(1, chosen, ((with_it + without) / 2).gather(1, chosen), "amin")
        used = (bar < torch.inf).any(0).nonzero()[:, 0]
        timesteps = Sampler(pipe, sae.sampling.steps, sae.sampling.guidance).scheduler.timesteps.cpu()
        return SAeUronErasure(sae, timesteps, used, factor[:, used], bar[:, used])


def scores(with_it: Tensor, without: Tensor) -> Tensor:
    """SAeUron's score, [steps, m], from mean activations [steps, m] on pictures with and without the concept."""
    tiny = torch.finfo(with_it.dtype).tiny
    return with_it / (with_it.sum(1, keepdim=True) + tiny) - without / (without.sum(1, keepdim=True) + tiny)


@dataclass(frozen=True)
class SAeUronErasure:
    sae: UNetSAE
    timesteps: Tensor
    """[T]."""
    latents: Tensor
    """Indices of those that are chosen at any step, [u]."""
    factor: Tensor
    """gamma * mu of each at each step, [T, u]; 1 where it is not chosen."""
    bar: Tensor
    """Activation from which it is changed, [T, u]; infinite where it is not chosen."""

    @property
    def nbytes(self) -> int:
        """The whole SAE is needed at inference: TopK must know the rivals of a latent."""
        own = {"timesteps": self.timesteps, "latents": self.latents, "factor": self.factor, "bar": self.bar}
        return nbytes(dict(self.sae.sae.state_dict())) + nbytes(own)

    @contextmanager
    def attached(self, pipe: Any) -> Iterator[None]:
        step = _Step()

        def predict(call: Call, sample: Tensor, t: Any, embeddings: Tensor) -> Tensor:
            distance = self.timesteps[None] - torch.as_tensor(t, device="cpu").reshape(-1, 1)
            step.index = distance.abs().argmin(1)
            try:
                return call(sample, t, embeddings)
            finally:
                step.index = None

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if step.index is None:
                return None
            edited = self.edit(output[0], step.index)
            return (edited, *output[1:]) if isinstance(output, tuple) else type(output)(sample=edited)

        with around_denoiser(pipe, predict):
            handle = pipe.unet.get_submodule(self.sae.block).register_forward_hook(hook)
            try:
                yield
            finally:
                handle.remove()

    def edit(self, maps: Tensor, step: Tensor) -> Tensor:
        """Edited activations of maps [b, c, h, w]; step: index into `timesteps`, [1 or b]."""
        device = maps.device
        z = self.sae.code(maps)[..., self.latents.to(device)]
        step = step.to(self.factor.device)
        factor, bar = (table[step][:, None].to(device) for table in (self.factor, self.bar))
        change = torch.where(z > bar, (factor - 1) * z, 0)
        if not change.any():
            return maps
        inner = self.sae.sae
        with full_precision(maps):
            delta = inner.scale * (change @ inner.W_dec[self.latents.to(device)])
        return (maps.float() + delta.transpose(1, 2).reshape(maps.shape)).to(maps)


class _Step(threading.local):
    """Of the UNet call that runs in this thread."""

    index: Tensor | None = None
