"""Erasers on ComfyUI's CONDITIONING: a list of entries [embeddings [b, tokens, width], options].

What ComfyUI does, and what follows from it here:

- Encoders stand side by side in the embeddings, pooled outputs in the option "pooled_output" [b, width], and Stable
  Diffusion 3 puts T5 behind both CLIPs along the tokens: `regions` tells which part of an eraser edits what.
- CLIP reads 77 positions. A longer prompt is cut into chunks, each encoded by itself with its own begin-of-text and
  end-of-text, and their embeddings are put one after the other along the tokens. To the encoder, and so to a neuron,
  each chunk is a prompt of its own: an eraser edits every chunk as it edits a prompt. A neuron of a prompt code fires
  in the chunks that hold its concept, and the others keep every bit. The pooled output is that of the first chunk.
- An encoder without begin-of-text (T5; an eraser with begin = 0) is not cut into chunks: its tokens are one prompt.
- "(word:1.3)" moves the word's embedding away from that of the empty prompt, after the encoder and before the eraser;
  so an activation is that of the weighted embedding.
- Zeros stand for no prompt, or for an encoder that is not loaded. They stay zeros.
- All other options (areas, control nets) are not read here.

Nodes hand the same objects to several others, so nothing is modified in place. Only torch is needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from snce.errors import SnceError
from snce.integrations.places import write_back
from snce.integrations.regions import EMBEDDINGS, regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snce.erase.eraser import ConceptEraser
    from snce.integrations.regions import Region

CHUNK = 77
"""Positions of CLIP, begin-of-text and end-of-text included."""


class Reading(NamedTuple):
    """What one neuron reads in a conditioning."""

    concept: str
    activation: float
    """The highest u in all its entries, prompts and chunks; 0 at least."""
    threshold: float
    """0 at least."""
    place: str
    """The tower whose part of the conditioning it reads, as `ConceptEraser.place`."""

    @property
    def fires(self) -> bool:
        return self.activation > self.threshold


def scaled(eraser: ConceptEraser, strength: float) -> ConceptEraser:
    """The same neurons with their strengths multiplied by `strength`; 0 leaves everything as it is."""
    neurons = eraser.neurons._replace(strength=eraser.neurons.strength * strength)
    return replace(eraser, neurons=neurons, others=tuple(scaled(other, strength) for other in eraser.others))


def edit_conditioning(
    conditioning: Sequence[Any], eraser: ConceptEraser, strength: float = 1.0, chunk: int = CHUNK
) -> list[list[Any]]:
    """A new conditioning with the eraser's neurons switched off, each in the part of its own encoder.

    Where they are silent in a whole tensor, it is the same object as before; where they are silent in a prompt or a
    chunk, the same bits.

    Args:
        conditioning: entries [embeddings [b, tokens, width], options].
        eraser: made for the encoders that these embeddings come from; only the widths can be checked.
        strength: multiplies the strength of each neuron.
        chunk: positions that the encoder reads at once; 0 if it has read all tokens as one prompt.

    Raises:
        SnceError: a part of the eraser has no place in this conditioning (see `regions`), or tokens that are not whole
            chunks.
    """
    eraser = scaled(eraser, strength)
    return [_edit(embeddings, options, eraser, chunk) for embeddings, options in conditioning]


def read_conditioning(conditioning: Sequence[Any], eraser: ConceptEraser, chunk: int = CHUNK) -> list[Reading]:
    """The highest activation of each neuron, by the eraser's parts and in the order of each; arguments and errors as
    for `edit_conditioning`, and an error if there is no entry."""
    if not conditioning:
        raise SnceError("this conditioning has no entries; connect what a text encode node returns")
    entries = [
        torch.cat([_heights(_prompts(x, region, chunk), region.part) for x, region in _parts(x, options, eraser)])
        for x, options in conditioning
    ]
    highest = iter(torch.stack(entries).amax(0).tolist())
    return [
        Reading(concept, next(highest), max(float(threshold), 0.0), part.place)
        for part in eraser.parts
        for concept, threshold in zip(part.concepts, part.neurons.threshold, strict=True)
    ]


def _heights(prompts: Tensor, part: ConceptEraser) -> Tensor:
    """Of each neuron in all prompts, [n]."""
    if not prompts.any():
        return torch.zeros(len(part.concepts))
    return part.activations(prompts).amax(0).float().cpu()


def _edit(embeddings: Tensor, options: dict[str, Any], eraser: ConceptEraser, chunk: int) -> list[Any]:
    tensors = {**options, EMBEDDINGS: embeddings}
    for x, region in _parts(embeddings, options, eraser):
        prompts = _prompts(x, region, chunk)
        if prompts.any():
            edited = region.part.edit(prompts).reshape(x.shape)
            tensors[region.tensor] = write_back(tensors[region.tensor], region.where, edited)
    return [tensors.pop(EMBEDDINGS), tensors]


def _parts(embeddings: Any, options: dict[str, Any], eraser: ConceptEraser) -> Iterator[tuple[Tensor, Region]]:
    """What each part of the eraser edits."""
    for region in regions(embeddings, options, eraser):
        yield (embeddings if region.tensor is EMBEDDINGS else options[region.tensor])[region.where], region


def _prompts(x: Tensor, region: Region, chunk: int) -> Tensor:
    """A region's numbers as prompts [b, positions, d], each chunk one."""
    x = x.contiguous()  # as the encoder gave them: the last bits of a product depend on how numbers lie in memory
    if x.ndim == 2:
        return x[:, None]
    tokens = x.shape[1]
    if region.part.begin == 0 or chunk == 0 or tokens <= chunk:
        return x
    if tokens % chunk:
        raise SnceError(
            f"this conditioning has {tokens} tokens, which are not whole chunks of {chunk}; set `chunk` to the number "
            "of positions that the text encoder reads at once (77 for CLIP), or to 0 if it has read all of them at once"
        )
    return x.reshape(-1, chunk, x.shape[-1])
