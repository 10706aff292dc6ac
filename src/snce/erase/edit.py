"""The edit: pure functions of tensors.

A neuron reads the embedding x of one token position as

    u = w . x + b                        w, b: its encoder row and bias

and stands for u * d in the embedding, with d its direction there. Switched off with strength s, it gives

    x' = x - s * a * d      where it fires; elsewhere x' is x, bit for bit,

where the amount a is u itself, or u levelled. A concept in company, or late in a prompt, activates its neuron less, but
is drawn no less: a neuron with a level is taken out as if its highest activation in the prompt were that level at
least,

    a = u * max(1, level / max(u over the prompt)).

Above the level the amount grows with the activation: a weighted prompt, "(word:1.6)", has more to be taken out.

Where does it fire? A neuron of a *position code* fires at each position by itself, where u > threshold. A neuron of a
*prompt code* fires in a prompt as a whole, if u > threshold at any position of it; it is then taken out of all its
positions at which u > 0. A threshold below zero acts as zero. The first `begin` positions are never read nor edited:
begin-of-text, or a template, is the same for every prompt (an encoder without it has begin = 0). Nor are positions
outside a mask, where there is one: padding that the denoiser does not read. No function here looks at other prompts of
the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Neurons(NamedTuple):
    """n neurons that are switched off together."""

    encoder: Tensor
    """w, [n, d]."""
    bias: Tensor
    """b, [n]."""
    threshold: Tensor
    """[n]."""
    decoder: Tensor
    """d, [n, d]."""
    strength: Tensor
    """s, [n]. 1 takes out what the neuron stands for, more pushes past zero, 0 leaves everything as it is."""
    whole_prompt: Tensor
    """bool [n]: True for a neuron of a prompt code."""
    level: Tensor
    """[n]: the neuron's highest activation in a prompt that is full of the concept; 0 for amounts that are not
    levelled."""


def activations(x: Tensor, neurons: Neurons, begin: int = 1, mask: Tensor | None = None) -> Tensor:
    """u of each neuron at each position, [b, positions, n], in the wider dtype; zero at positions that are left alone.

    x: [b, positions, d]. mask: bool [b, positions]; the first `begin` positions are counted within it.
    """
    dtype = torch.promote_types(x.dtype, neurons.encoder.dtype)
    u = _product(x.to(dtype), neurons.encoder.to(dtype).T) + neurons.bias
    if mask is None:
        return torch.cat([torch.zeros_like(u[:, :begin]), u[:, begin:]], dim=1)
    left_alone = ~mask | (mask.cumsum(1) <= begin)
    return u.masked_fill(left_alone[..., None], 0)


def prompt_activation(x: Tensor, neurons: Neurons, begin: int = 1, mask: Tensor | None = None) -> Tensor:
    """Highest activation of each neuron in each prompt, [b, n]; 0 at least. It fires if this passes its threshold."""
    return activations(x, neurons, begin, mask).amax(1).clamp_min(0)


def fires(u: Tensor, neurons: Neurons) -> Tensor:
    """Where each neuron is taken out, bool [b, positions, n]. u: activations [b, positions, n]."""
    above = u > neurons.threshold.clamp_min(0)
    in_prompt = above.any(1, keepdim=True) & (u > 0)
    # not torch.where: ONNX runtimes have none for booleans
    return (neurons.whole_prompt & in_prompt) | (~neurons.whole_prompt & above)


def amounts(u: Tensor, neurons: Neurons) -> Tensor:
    """a: how much of its direction is taken out of each position for each neuron at strength 1, [b, positions, n]; zero
    where it does not fire. u: activations [b, positions, n]."""
    peak = u.amax(1, keepdim=True)
    peak = torch.where(peak > 0, peak, torch.ones_like(peak))  # silent prompts: no infinity, which has no gradient
    levelled = u * (neurons.level / peak).clamp_min(1)  # a level of 0 leaves u as it is
    return torch.where(fires(u, neurons), levelled, torch.zeros_like(u))


def edit(x: Tensor, neurons: Neurons, begin: int = 1, mask: Tensor | None = None) -> Tensor:
    """x with the neurons switched off, [b, positions, d], in the dtype of x.

    Every neuron's part is computed from the same x, and the parts are added: their order cannot matter, but for the
    rounding of a sum, which `ConceptEraser` rules out by keeping its neurons sorted.
    """
    u = activations(x, neurons, begin, mask)
    if _may_look(x) and not bool((u > neurons.threshold.clamp_min(0)).any()):
        return x.clone()  # what comes below would give, too, at three times the cost
    amount = neurons.strength * amounts(u, neurons)
    edited = x.to(u.dtype) - _product(amount, neurons.decoder.to(u.dtype))
    # the choice, not the sum, keeps silent positions as they are: -0.0 - 0.0 would lose its sign
    return torch.where((amount != 0).any(-1, keepdim=True), edited.to(x.dtype), x)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in their own dtype, inside torch.autocast, too: its half precision could move a neuron past a threshold."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def _may_look(x: Tensor) -> bool:
    """Whether what is computed may depend on numbers: not in a graph that is recorded for other numbers, and a GPU
    would have to be waited for."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == "cpu" and not recorded
