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

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from hashlib import sha1
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor, nn

from snce.bench.methods.base import loaded, nbytes, replaced
from snce.checkpoint import generator
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from inspect import BoundArguments

    Call = Callable[[Tensor, Any, Tensor], Tensor]
    """The UNet: sample [b, c, h, w], timestep, embeddings [b, positions, d] to a prediction [b, c, h, w]."""


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


@contextmanager
def around_denoiser(pipe: Any, around: Callable[[Call, Tensor, Any, Tensor], Tensor]) -> Iterator[None]:
    """`around(call, sample, t, embeddings)` stands in for `pipe.unet` inside the block; `call` is the UNet itself."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    original = pipe.unet.forward

    @wraps(original, updated=())
    def forward(
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        *args: Any,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        def call(sample: Tensor, t: Any, embeddings: Tensor) -> Tensor:
            return original(sample, t, embeddings, *args, return_dict=False, **kwargs)[0]

        prediction = around(call, sample, timestep, encoder_hidden_states)
        return UNet2DConditionOutput(sample=prediction) if return_dict else (prediction,)

    with replaced(pipe.unet, "forward", forward):
        yield


@contextmanager
def around_encode_prompt(pipe: Any, around: Callable[[Callable[[], Any], BoundArguments], Any]) -> Iterator[None]:
    """`around(call, arguments)` stands in for `pipe.encode_prompt`; it may change `arguments` before it calls."""
    original = pipe.encode_prompt
    parameters = signature(original)

    @wraps(original, updated=())  # its attributes are other wrappers' bookkeeping
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        bound = parameters.bind(*args, **kwargs)
        return around(lambda: original(*bound.args, **bound.kwargs), bound)

    with replaced(pipe, "encode_prompt", encode_prompt):
        yield


class PromptTokens:
    """From which tokens an embedding came: the denoiser is given embeddings only."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, Tensor] = {}  # a hash and a few ids for each prompt; the embeddings are not kept

    def of(self, embedding: Tensor) -> Tensor | None:
        """Token ids [positions] of an embedding [positions, d]; None if it was not encoded by the pipeline."""
        return self._tokens.get(_digest(embedding))

    def add(self, embeddings: Tensor, tokens: Tensor) -> None:
        """embeddings: [n * images per prompt, positions, d]; tokens: [n, positions]."""
        tokens = tokens.repeat_interleave(len(embeddings) // len(tokens), 0)
        self._tokens.update(zip(map(_digest, embeddings), tokens, strict=True))


@contextmanager
def recorded_prompts(pipe: Any) -> Iterator[PromptTokens]:
    """Inside the block, the tokens of all prompts that `pipe` encodes are known by their embeddings."""
    known = PromptTokens()

    def record(call: Callable[[], Any], bound: BoundArguments) -> Any:
        result, prompt = call(), bound.arguments.get("prompt")
        if prompt is not None and bound.arguments.get("prompt_embeds") is None:
            prompts = pipe.maybe_convert_prompt([prompt] if isinstance(prompt, str) else prompt, pipe.tokenizer)
            known.add(result[0], tokenize(pipe, prompts))
        return result

    with around_encode_prompt(pipe, record):
        yield known


def _digest(embedding: Tensor) -> bytes:
    return sha1(embedding.detach().float().cpu().contiguous().numpy().tobytes()).digest()


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


def drawn(embeddings: Sequence[Tensor], n: int, rng: torch.Generator) -> Tensor:
    """n embeddings [n, positions, d]: a group at random, then one of it at random."""
    groups = torch.randint(len(embeddings), (n,), generator=rng).tolist()
    return torch.stack([embeddings[g][int(torch.randint(len(embeddings[g]), (), generator=rng))] for g in groups])


def predict(unet: nn.Module, x: Tensor, t: Any, embeddings: Tensor) -> Tensor:
    """The UNet's prediction [b, c, h, w]; embeddings [1 or b, positions, d]. Inputs are cast to the UNet's dtype."""
    dtype = next(unet.parameters()).dtype
    return unet(x.to(dtype), t, embeddings.expand(len(x), -1, -1).to(dtype), return_dict=False)[0]


class Noisy(NamedTuple):
    """Latents part of the way from noise to a picture."""

    x: Tensor
    """x_t, [b, c, h, w]."""
    t: Tensor
    """Timestep, a scalar."""


class Sampler:
    """A deterministic DDIM of its own with a pipeline's noise schedule: the pipeline's scheduler has state."""

    def __init__(self, pipe: Any, steps: int, guidance: float) -> None:
        from diffusers import DDIMScheduler

        self.scheduler: Any = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)
        self.scheduler.set_timesteps(steps, device=pipe.unet.device)
        self.guidance = guidance
        self.null = encode(pipe, [""])

    @torch.no_grad()
    def start(self, unet: Any, n: int, rng: torch.Generator) -> Tensor:
        """Noise [n, c, h, w], float32."""
        size = unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return torch.randn(n, unet.config.in_channels, height, width, generator=rng).to(unet.device)

    @torch.no_grad()
    def step(self, unet: nn.Module, x: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        """x at the next timestep."""
        both = torch.cat([self.null.expand(len(x), -1, -1), embeddings])
        unconditional, conditional = predict(unet, torch.cat([x, x]), t, both).float().chunk(2)
        guided = unconditional + self.guidance * (conditional - unconditional)
        return self.scheduler.step(guided, t, x, return_dict=False)[0]

    def to_random_step(self, unet: Any, embeddings: Tensor, rng: torch.Generator) -> Noisy:
        """Denoise to a step drawn uniformly, the first and the last included; one step for the whole batch."""
        timesteps = self.scheduler.timesteps
        stop = int(torch.randint(len(timesteps), (), generator=rng))
        x = self.start(unet, len(embeddings), rng)
        for t in timesteps[:stop]:
            x = self.step(unet, x, t, embeddings)
        return Noisy(x, timesteps[stop])

    def to_the_end(self, unet: Any, embeddings: Tensor, rng: torch.Generator) -> Tensor:
        """Clean latents [b, c, h, w]."""
        x = self.start(unet, len(embeddings), rng)
        for t in self.scheduler.timesteps:
            x = self.step(unet, x, t, embeddings)
        return x


def trainable_copy(unet: nn.Module, wanted: Callable[[str], bool]) -> tuple[Any, dict[str, nn.Parameter]]:
    """A float32 copy of the UNet, and its parameters whose names are `wanted`: only these have gradients.

    Raises:
        SnceError: there are none.
    """
    edited = copy.deepcopy(unet).float().requires_grad_(False)
    parameters = {name: p for name, p in edited.named_parameters() if wanted(name)}
    if not parameters:
        raise SnceError(f"{type(unet).__name__} has no parameters of the kind that this method trains")
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return edited, parameters


def minimise(
    parameters: Sequence[Tensor],
    loss: Callable[[torch.Generator], Tensor],
    optimizer: torch.optim.Optimizer,
    steps: int,
    seed: int,
    title: str,
    progress: bool,
) -> tuple[float, ...]:
    """Take `steps` optimiser steps on `loss(random stream of the step)`; returns the losses.

    Raises:
        SnceError: a loss that is not finite.
    """
    losses: list[float] = []
    with Progress(transient=True, disable=not progress) as bar, torch.enable_grad():
        task = bar.add_task(title, total=steps)
        for step in range(steps):
            value = loss(generator(seed, step))
            if not torch.isfinite(value):
                raise SnceError(f"{title}: the loss is {value.item()} at step {step}; lower the learning rate")
            optimizer.zero_grad()
            gradients = torch.autograd.grad(value, list(parameters), allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            losses.append(value.item())
            bar.update(task, advance=1, description=f"{title} (loss {losses[-1]:.4f})")
    return tuple(losses)


@dataclass(frozen=True)
class TrainedWeights:
    """An erasure that is new values of some of the UNet's parameters."""

    weights: dict[str, Tensor]
    losses: tuple[float, ...] = ()
    """Training loss of each step."""

    @property
    def nbytes(self) -> int:
        return nbytes(self.weights)

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        return loaded(pipe.unet, self.weights)

    @classmethod
    def of(cls, parameters: dict[str, nn.Parameter], like: nn.Module, losses: tuple[float, ...]) -> TrainedWeights:
        """Cast to the dtypes of `like`, the UNet that they are for."""
        own = dict(like.named_parameters())
        return cls({name: p.detach().clone().to(own[name]) for name, p in parameters.items()}, losses)
