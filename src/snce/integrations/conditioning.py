"""Erasers on ComfyUI's CONDITIONING: a list of entries [embeddings [b, tokens, width], options].

What ComfyUI does, and what follows from it here:

- CLIP reads 77 positions. A longer prompt is cut into chunks, each encoded by itself with its own begin-of-text and
  end-of-text, and their embeddings are put one after the other along the tokens. To the encoder, and so to a neuron,
  each chunk is a prompt of its own: an eraser edits every chunk as it edits a prompt. A neuron of a prompt code fires
  in the chunks that hold its concept, and the others keep every bit.
- An encoder without begin-of-text (T5; an eraser with begin = 0) is not cut into chunks: its tokens are one prompt.
- "(word:1.3)" moves the word's embedding away from that of the empty prompt, after the encoder and before the eraser;
  so an activation is that of the weighted embedding.
- Widths of several encoders stand side by side in one embedding, as SDXL's 768 + 1280.
- Options hold all else (the pooled output, areas, control nets) and are not read here.

Nodes hand the same objects to several others, so nothing is modified in place. Only torch is needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from snce.errors import SnceError
from snce.integrations.widths import write_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snce.erase.eraser import ConceptEraser

CHUNK = 77
"""Positions of CLIP, begin-of-text and end-of-text included."""

_MODELS = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    1280: "the SDXL refiner",
    2048: "SDXL, whose encoders of 768 and 1280 stand side by side",
    4096: "FLUX or SD3",
}


class Reading(NamedTuple):
    """What one neuron reads in a conditioning."""

    concept: str
    activation: float
    """The highest u in all its entries, prompts and chunks; 0 at least."""
    threshold: float
    """0 at least."""

    @property
    def fires(self) -> bool:
        return self.activation > self.threshold


def towers(width: int, eraser: ConceptEraser) -> list[tuple[slice, ConceptEraser]]:
    """Which numbers of an embedding belong to which encoder, with what edits them. This is the one place that knows.

    Raises:
        SnceError: the eraser was made for embeddings of another width.
    """
    if width != eraser.width:
        made_for = eraser.pipeline or _MODELS.get(eraser.width, "another model")
        raise SnceError(
            f"the eraser of {', '.join(dict.fromkeys(eraser.concepts))} is for text embeddings of width "
            f"{eraser.width} ({made_for}), but this conditioning has width {width}"
            f"{f' ({_MODELS[width]})' if width in _MODELS else ''}; load an eraser that was made for this model"
        )
    return [(slice(0, width), eraser)]


def scaled(eraser: ConceptEraser, strength: float) -> ConceptEraser:
    """The same neurons with their strengths multiplied by `strength`; 0 leaves everything as it is."""
    neurons = eraser.neurons
    return replace(eraser, neurons=neurons._replace(strength=neurons.strength * strength))


def edit_conditioning(
    conditioning: Sequence[Any], eraser: ConceptEraser, strength: float = 1.0, chunk: int = CHUNK
) -> list[list[Any]]:
    """A new conditioning with the eraser's neurons switched off.

    Where they are silent in a whole entry, it holds the same tensor as before; where they are silent in a prompt or a
    chunk, the same bits.

    Args:
        conditioning: entries [embeddings [b, tokens, width], options].
        eraser: made for the encoder that these embeddings come from; only the width can be checked.
        strength: multiplies the strength of each neuron.
        chunk: positions that the encoder reads at once; 0 if it has read all tokens as one prompt.

    Raises:
        SnceError: another width than the eraser's, or tokens that are not whole chunks.
    """
    eraser = scaled(eraser, strength)
    return [[_edit(embeddings, eraser, chunk), dict(options)] for embeddings, options in conditioning]


def read_conditioning(conditioning: Sequence[Any], eraser: ConceptEraser, chunk: int = CHUNK) -> list[Reading]:
    """The highest activation of each neuron, in the order of the eraser's; arguments and errors as for
    `edit_conditioning`, and an error if there is no entry."""
    if not conditioning:
        raise SnceError("this conditioning has no entries; connect what a text encode node returns")
    peaks, neurons = [], []
    for embeddings, _ in conditioning:
        parts = list(_parts(embeddings, eraser, chunk))
        peaks.append(torch.cat([part.activations(prompts).amax(0) for _, prompts, part in parts]).cpu())
        neurons = [pair for *_, part in parts for pair in zip(part.concepts, part.neurons.threshold, strict=True)]
    highest = torch.stack(peaks).amax(0).tolist()
    return [
        Reading(concept, activation, max(float(threshold), 0.0))
        for (concept, threshold), activation in zip(neurons, highest, strict=True)
    ]


def _edit(embeddings: Tensor, eraser: ConceptEraser, chunk: int) -> Tensor:
    edited = embeddings
    for where, prompts, part in _parts(embeddings, eraser, chunk):
        edited = write_back(edited, where, part.edit(prompts).reshape(*embeddings.shape[:2], -1))
    return edited


def _parts(embeddings: Any, eraser: ConceptEraser, chunk: int) -> Iterator[tuple[slice, Tensor, ConceptEraser]]:
    """For each tower: where it stands in the width, its embeddings [prompts and chunks, positions, d], its eraser."""
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 3:
        found = list(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
        raise SnceError(f"a conditioning must hold text embeddings [prompts, tokens, width], not {found}")
    for where, part in towers(embeddings.shape[-1], eraser):
        yield where, _in_chunks(embeddings[..., where], part.begin, chunk), part


def _in_chunks(x: Tensor, begin: int, chunk: int) -> Tensor:
    """[b, chunks * positions, d] as [b * chunks, positions, d]."""
    tokens = x.shape[1]
    if begin == 0 or chunk == 0 or tokens <= chunk:
        return x
    if tokens % chunk:
        raise SnceError(
            f"this conditioning has {tokens} tokens, which are not whole chunks of {chunk}; set `chunk` to the number "
            "of positions that the text encoder reads at once (77 for CLIP), or to 0 if it has read all of them at once"
        )
    return x.reshape(-1, chunk, x.shape[-1])
