"""What a pipeline's denoiser receives from its text encoders, seen while the pipeline runs."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tests.pipelines.families import CALLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import DiffusionPipeline

TEXT_INPUTS = (
    "encoder_hidden_states",
    "encoder_hidden_states_1",
    "encoder_hidden_states_mask",
    "encoder_attention_mask",
    "encoder_attention_mask_1",
    "pooled_projections",
    "added_cond_kwargs",
    "cap_feats",
)
"""Arguments of the denoisers that carry text."""


def denoiser(pipe: DiffusionPipeline) -> nn.Module:
    return pipe.components.get("unet") or pipe.components["transformer"]


@torch.no_grad()
def run(pipe: Any, prompt: str | list[str], **options: Any) -> Any:
    """The pipeline's own call in its smallest form: one step, from a fixed seed. Returns its first output."""
    calls = {"num_inference_steps": 1, "generator": torch.Generator().manual_seed(0)} | CALLS[type(pipe).__name__]
    return pipe(prompt=prompt, return_dict=False, **(calls | options))[0]


def received(pipe: DiffusionPipeline, prompt: str | list[str], **options: Any) -> dict[str, Tensor]:
    """What the denoiser receives as text in its first call: see `all_received`."""
    return all_received(pipe, prompt, **options)[0]


def all_received(pipe: DiffusionPipeline, prompt: str | list[str], **options: Any) -> list[dict[str, Tensor]]:
    """What the denoiser receives as text in each call of the first step: one call, or one for the prompt and one for
    the negative prompt.

    Keys are names of arguments, `argument.key` for what lies in a dict and `argument.0` for what lies in a list.
    """
    model = denoiser(pipe)
    parameters = signature(type(model).forward)
    calls: list[dict[str, Tensor]] = []
    times: list[float] = []

    def take(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        given = parameters.bind(model, *args, **kwargs).arguments
        times.append(float(given["t" if "t" in given else "timestep"].flatten()[0]))
        if times[-1] == times[0]:
            text = {name: given[name] for name in TEXT_INPUTS if name in given}
            calls.append({path: tensor.clone() for path, tensor in _tensors(text) if not path.endswith(".time_ids")})

    handle = model.register_forward_pre_hook(take, with_kwargs=True)
    try:
        run(pipe, prompt, **({"output_type": "latent"} | options))
    finally:
        handle.remove()
    return calls


def _tensors(tree: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield path, tree
    elif isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _tensors(value, f"{path}.{key}" if path else str(key))
