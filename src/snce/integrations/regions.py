"""Which numbers of ComfyUI's conditioning come from which text encoder. This is the one place that knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from snce.errors import SnceError
from snce.integrations.places import Places, columns, places_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snce.erase.eraser import ConceptEraser

EMBEDDINGS = ""
POOLED = "pooled_output"

WIDTHS = {
    "text_encoder.output.hidden_states[-2]": 768,
    "text_encoder.output.text_embeds": 768,
    "text_encoder.output.pooler_output": 768,
    "text_encoder_2.output.hidden_states[-2]": 1280,
    "text_encoder_2.output.text_embeds": 1280,
    "text_encoder_2.output.last_hidden_state": 4096,
    "text_encoder_3.output.last_hidden_state": 4096,
}
"""By place, for towers of which an eraser has no part: its own parts tell theirs."""

_MODELS = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    1280: "the SDXL refiner",
    2048: "SDXL, whose encoders of 768 and 1280 stand side by side",
    4096: "FLUX or Stable Diffusion 3",
}
_FILLING = "zeros"


class Region(NamedTuple):
    """What one part of an eraser edits."""

    part: ConceptEraser
    tensor: str
    """`EMBEDDINGS`, or the option that holds the pooled output."""
    where: tuple[slice, ...]
    """In that tensor."""


class _Layout(NamedTuple):
    places: Places
    behind: str = ""
    """A tower that follows the others along the tokens; they are filled up to its width with zeros."""

    def holds(self, eraser: ConceptEraser) -> bool:
        everything = {*self.places.tokens, *self.places.pooled, self.behind}
        return all(part.place in everything for part in eraser.parts)

    def width(self, widths: Mapping[str, int]) -> int:
        return widths[self.behind] if self.behind else sum(widths[place] for place in self.places.tokens)


def _layouts() -> tuple[_Layout, ...]:
    xl, three = places_of("StableDiffusionXL"), places_of("StableDiffusion3")
    *clips, t5 = three.tokens
    return (
        _Layout(places_of("StableDiffusion")),
        _Layout(xl),
        _Layout(xl._replace(tokens=xl.tokens[1:])),  # the refiner
        _Layout(places_of("Flux")),
        _Layout(Places((*clips, _FILLING), three.pooled), t5),
    )


LAYOUTS = _layouts()


def regions(embeddings: Any, options: Mapping[str, Any], eraser: ConceptEraser) -> list[Region]:
    """Where each part of the eraser finds what it edits, in the order of `eraser.parts`. A region may be empty: Stable
    Diffusion 3 without T5 has no tokens of it.

    Args:
        embeddings: [b, tokens, width].
        options: beside them in their entry.

    Raises:
        SnceError: this is no conditioning, it has another width than the eraser's, or lacks the pooled output, or it is
            not known where ComfyUI puts what a part of the eraser edits.
    """
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 3:
        raise SnceError(f"a conditioning must hold text embeddings [prompts, tokens, width], not {_shape(embeddings)}")
    known = [layout for layout in LAYOUTS if layout.holds(eraser)]
    if not known:
        raise SnceError(
            f"{_of(eraser)} is for {', '.join(part.place for part in eraser.parts)}, and where ComfyUI puts that is "
            "not known; erasers of Stable Diffusion 1.x to 3, SDXL and FLUX.1 fit, made on their diffusers pipelines"
        )
    widths, total = WIDTHS | {part.place: part.width for part in eraser.parts}, embeddings.shape[-1]
    for layout in known:
        across = columns(layout.places.tokens, widths, total)
        if across is not None and total == layout.width(widths):
            return [_region(part, layout, across, embeddings, options, widths) for part in eraser.parts]
    wanted = " or ".join(dict.fromkeys(str(layout.width(widths)) for layout in known))
    made_for = eraser.pipeline or _MODELS.get(eraser.width, "another model")
    raise SnceError(
        f"{_of(eraser)} is for text embeddings of width {wanted} ({made_for}), but this conditioning has width {total}"
        f"{f' ({_MODELS[total]})' if total in _MODELS else ''}; load an eraser that was made for this model"
    )


def _region(
    part: ConceptEraser,
    layout: _Layout,
    across: Mapping[str, slice],
    embeddings: Tensor,
    options: Mapping[str, Any],
    widths: Mapping[str, int],
) -> Region:
    everything = slice(None)
    if part.place in layout.places.pooled:
        pooled = options.get(POOLED)
        found = None
        if isinstance(pooled, Tensor) and pooled.ndim == 2:
            found = columns(layout.places.pooled, widths, pooled.shape[1])
        if found is None:
            wanted = sum(widths[place] for place in layout.places.pooled)
            raise SnceError(
                f"{_of(part)} edits the pooled output, too, which must be [prompts, {wanted}] and is {_shape(pooled)} "
                "here; connect what a text encode node of this model returns"
            )
        return Region(part, POOLED, (everything, found[part.place]))
    if not layout.behind:
        return Region(part, EMBEDDINGS, (everything, everything, across[part.place]))
    # a longer prompt has several chunks of CLIP and more tokens of T5; only the filling tells them apart
    filled = (embeddings[..., across[_FILLING]] == 0).all(-1).all(0)
    clips = int(filled.long().cumprod(0).sum())
    if part.place == layout.behind:
        return Region(part, EMBEDDINGS, (everything, slice(clips, None), everything))
    return Region(part, EMBEDDINGS, (everything, slice(0, clips), across[part.place]))


def _of(eraser: ConceptEraser) -> str:
    return f"the eraser of {', '.join(dict.fromkeys(eraser.concepts))}"


def _shape(x: Any) -> str:
    return str(list(x.shape)) if isinstance(x, Tensor) else type(x).__name__
