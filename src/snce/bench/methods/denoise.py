"""The denoiser as the methods use it: calling it, standing in for it, sampling to a random step, training a copy of it.

*Prediction types.* Formulas of the field are stated for predicted noise, epsilon. A model may predict velocity
instead: v = alpha_t epsilon - sigma_t x_0, so epsilon = alpha_t v + sigma_t x_t (Salimans & Ho, arXiv 2202.00512). At
one x_t two predictions therefore differ by epsilon - epsilon' = alpha_t (v - v'), and any affine combination whose
weights add up to one (guidance, the targets of ESD and SPM) is the same statement in both. What is *not* the same are
thresholds on differences and sums over several timesteps (SLD): these need `epsilon_scale`. Training losses are taken
in the model's own prediction, as in the model's own training; in epsilon they would be weighted by alpha_t^2 at each
timestep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager


def check_pipeline(pipe: Any) -> None:
    """Raises:
    SnceError: not a pipeline of Stable Diffusion's classes, or one that predicts neither epsilon nor v.
    """
    missing = [name for name in ("unet", "text_encoder", "tokenizer", "scheduler") if getattr(pipe, name, None) is None]
    if missing:
        raise SnceError(f"{type(pipe).__name__} has no {', '.join(missing)}: a Stable Diffusion 1.x or 2.x is needed")
    kind = pipe.scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise SnceError(f"prediction type {kind!r} is not supported; it must be 'epsilon' or 'v_prediction'")


def epsilon_scale(scheduler: Any, t: Any, like: Tensor) -> Tensor:
    """The factor, [1 or b, 1, 1, 1], by which a difference of two predictions at one x_t becomes one of epsilon."""
    t = torch.as_tensor(t, device="cpu").reshape(-1)
    if scheduler.config.prediction_type == "epsilon":
        scale = torch.ones(1)
    else:
        scale = scheduler.alphas_cumprod.cpu()[t.round().long()].sqrt()
    return scale.to(like.device, torch.float32).reshape(-1, 1, 1, 1)


def step_index(scheduler: Any, t: Any) -> Tensor:
    """How many steps of the schedule lie before timestep t, int64 [1 or b]: no counter that could go out of step."""
    t = torch.as_tensor(t, device="cpu").reshape(-1, 1)
    return (torch.as_tensor(scheduler.timesteps).cpu()[None] > t).sum(1)


def is_guided(pipe: Any, sample: Tensor) -> bool:
    """Whether a UNet call carries [unconditional; conditional]: the pipeline doubles the same latents for it."""
    n, odd = divmod(len(sample), 2)
    wanted = vars(pipe).get("_guidance_scale")  # of the pipeline's last call; none where the UNet is called directly
    return not odd and (wanted is None or wanted > 1) and torch.equal(sample[:n], sample[n:])


def full_precision(like: Tensor) -> AbstractContextManager[Any]:
    """Autocast is off inside: projections and codes would be ruined by it."""
    return torch.autocast(like.device.type, enabled=False)


def tokenize(pipe: Any, prompts: Sequence[str]) -> Tensor:
    """Token ids [n, positions], as the pipeline makes them."""
    length = pipe.tokenizer.model_max_length
    return pipe.tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True,
                          return_tensors="pt").input_ids  # fmt: skip


@torch.no_grad()
def encode(pipe: Any, prompts: Sequence[str], batch: int = 64) -> Tensor:
    """Embeddings [n, positions, d] that the pipeline gives to its denoiser for `prompts`."""
    device, prompts = pipe.unet.device, list(prompts)
    parts = [pipe.encode_prompt(prompts[i : i + batch], device, 1, False)[0] for i in range(0, len(prompts), batch)]
    return torch.cat(parts)


def predict(unet: nn.Module, x: Tensor, t: Any, embeddings: Tensor) -> Tensor:
    """The UNet's prediction [b, c, h, w]; embeddings [1 or b, positions, d]. Inputs are cast to the UNet's dtype."""
    dtype = next(unet.parameters()).dtype
    return unet(x.to(dtype), t, embeddings.expand(len(x), -1, -1).to(dtype), return_dict=False)[0]
