"""A block for Modular Diffusers that edits the prompt's embeddings between text encoders and denoiser.

    blocks = EraseConcept(eraser).insert_into(FluxAutoBlocks())
    pipe = blocks.init_pipeline("black-forest-labs/FLUX.1-dev")

Only for pipelines whose `prompt_embeds` and `pooled_prompt_embeds` are what text encoders give out, as in `FAMILIES`.
Others cut them, pad them or stack them first: there, attach the eraser to the encoders themselves.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from diffusers import ModularPipelineBlocks
from diffusers.modular_pipelines import InputParam, OutputParam
from torch import Tensor

from snce.errors import SnceError
from snce.integrations.places import columns, is_pooled, places_of, write_back
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from snce.erase.eraser import ConceptEraser
    from snce.integrations.places import Places

FAMILIES = {
    "StableDiffusionXLModularPipeline": "StableDiffusionXL",
    "FluxModularPipeline": "Flux",
    "FluxKontextModularPipeline": "Flux",
}
"""The row of `snce.text.families` that tells what stands in the embeddings, by the class of the modular pipeline."""

_NEGATIVE = "negative_"


class EraseConcept(ModularPipelineBlocks):
    """Switches an eraser's neurons off in `prompt_embeds` and `pooled_prompt_embeds`. Prompts on which they are silent
    keep every bit.

    Several concepts: `EraseConcept(a | b)`, not two blocks, of which the second would read edited embeddings.

    Args:
        eraser: made for text encoders of the pipeline; that is checked on the first run.
        edit_negative: also edit those of the negative prompt. Off by default: "negative: nudity" is meant to keep it
            out.
        allow_mismatch: use it on text encoders that it was not made for.
    """

    def __init__(self, eraser: ConceptEraser, *, edit_negative: bool = False, allow_mismatch: bool = False) -> None:
        super().__init__()
        self.eraser = eraser
        self.edit_negative = edit_negative
        self.allow_mismatch = allow_mismatch
        self._checked: dict[str, weakref.ref[nn.Module]] = {}

    def insert_into(self, blocks: Any) -> Any:
        """Put this block behind the sub-block "text_encoder" of `blocks`, and return `blocks`.

        Raises:
            SnceError: there is no such sub-block, or the blocks have an eraser.
        """
        names = list(blocks.sub_blocks)
        if "text_encoder" not in names:
            raise SnceError(
                f"{type(blocks).__name__} has no sub-block 'text_encoder' ({', '.join(names)}); insert the eraser "
                "yourself, behind the one that encodes the prompt: blocks.sub_blocks.insert(name, block, index)"
            )
        if any(isinstance(block, EraseConcept) for block in blocks.sub_blocks.values()):
            raise SnceError("these blocks have an eraser already; join erasers, and insert EraseConcept(a | b) alone")
        blocks.sub_blocks.insert("erase_concept", self, names.index("text_encoder") + 1)
        return blocks

    @property
    def description(self) -> str:
        return f"Erases {', '.join(dict.fromkeys(self.eraser.concepts))} from the embeddings of the prompt."

    @property
    def inputs(self) -> list[InputParam]:
        told = "what the text encoders gave"
        return [
            InputParam(name, type_hint=Tensor, required=not name.startswith(_NEGATIVE), description=told)
            for name in self._edited
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        told = "the same without the concepts"
        kind = "denoiser_input_fields"
        return [OutputParam(n, type_hint=Tensor, kwargs_type=kind, description=told) for n in self._edited]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Edit the embeddings in the state.

        Raises:
            SnceError: a part of the eraser is for what does not stand in this pipeline's embeddings, or for another
                text encoder; or `clip_skip` is set.
        """
        if state.get("clip_skip") is not None:
            raise SnceError("an eraser reads one layer of the text encoder, and clip_skip takes another; leave it out")
        places = self._places(components)
        if not self.allow_mismatch:
            self._check(components)
        encoders = {place: getattr(components, place.partition(".")[0], None) for place in places.tokens}
        widths = {place: encoder.config.hidden_size for place, encoder in encoders.items() if encoder is not None}
        block_state: Any = self.get_block_state(state)
        for name, parts in self._edited.items():
            x = getattr(block_state, name)
            if x is not None and x.any():  # zeros: no negative prompt
                where = places.pooled if is_pooled(parts[0].module) else places.tokens
                setattr(block_state, name, _edit(name, x, parts, where, widths))
        self.set_block_state(state, block_state)
        return components, state

    @property
    def _edited(self) -> dict[str, list[ConceptEraser]]:
        """Names of the embeddings, with the parts of the eraser that edit them."""
        found: dict[str, list[ConceptEraser]] = {}
        for part in self.eraser.parts:
            found.setdefault("pooled_prompt_embeds" if is_pooled(part.module) else "prompt_embeds", []).append(part)
        return found | ({_NEGATIVE + name: parts for name, parts in found.items()} if self.edit_negative else {})

    def _places(self, components: Any) -> Places:
        """What stands in the embeddings of this pipeline, if all parts of the eraser are among it."""
        kind = next((c.__name__ for c in type(components).__mro__ if c.__name__ in FAMILIES), None)
        if kind is None:
            raise SnceError(
                f"{type(components).__name__} is none of those whose prompt_embeds are as text encoders gave them "
                f"({', '.join(FAMILIES)}); attach the eraser to a diffusers pipeline of the same components instead, "
                "whose text encoders are then edited here, too: eraser.attach(pipe)"
            )
        places = places_of(FAMILIES[kind])
        strange = [part.place for part in self.eraser.parts if part.place not in (*places.tokens, *places.pooled)]
        if strange:
            raise SnceError(
                f"the eraser is for {' and '.join(strange)}, and the embeddings of {kind} are of "
                f"{', '.join((*places.tokens, *places.pooled))}"
            )
        return places

    def _check(self, components: Any) -> None:
        for part in self.eraser.parts:
            encoder = getattr(components, part.tower, None)
            if encoder is None:
                raise SnceError(
                    f"the pipeline has no {part.tower} to tell whether the eraser was made for it; load it, or pass "
                    "allow_mismatch=True"
                )
            seen = self._checked.get(part.place)
            if seen is None or seen() is not encoder:
                part.check(TextTower(encoder, None, part.module, part.tower))
                self._checked[part.place] = weakref.ref(encoder)  # hashing a large encoder's weights takes a while


def _edit(
    name: str, x: Tensor, parts: Sequence[ConceptEraser], places: Sequence[str], widths: Mapping[str, int]
) -> Tensor:
    """x [b, positions, width] or [b, width], in which `places` stand side by side, edited by the parts."""
    across = columns(places, {**widths, **{part.place: part.width for part in parts}}, x.shape[-1])
    if across is None:
        needed = " and ".join(f"{part.width} ({part.place})" for part in parts)
        raise SnceError(
            f"the eraser is for embeddings of width {needed}, which do not fit {name} of width {x.shape[-1]}; load an "
            "eraser that was made for this model"
        )
    for part in parts:
        where = (..., across[part.place])
        mine = x[where].contiguous()
        x = write_back(x, where, part.edit(mine if mine.ndim == 3 else mine[:, None]).reshape(mine.shape))
    return x
