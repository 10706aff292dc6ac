"""A block for Modular Diffusers that edits the prompt's embeddings between text encoder and denoiser.

    blocks = EraseConcept(eraser).insert_into(FluxAutoBlocks())
    pipe = blocks.init_pipeline("black-forest-labs/FLUX.1-dev")

Only for pipelines whose `prompt_embeds` are what text encoders give out, as in `LAYOUTS`. Others cut them, pad them or
stack them first: there, attach the eraser to the encoder itself.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from diffusers import ModularPipelineBlocks
from diffusers.modular_pipelines import InputParam, OutputParam
from torch import Tensor

from snce.errors import SnceError
from snce.integrations.widths import write_back
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from torch import nn

    from snce.erase.eraser import ConceptEraser


class Place(NamedTuple):
    """A text encoder whose output is in `prompt_embeds`."""

    encoder: str
    """Attribute of the pipeline."""
    module: str
    """Whose output it is; a negative number counts layers from the end."""


_T5 = (Place("text_encoder_2", "encoder.final_layer_norm"),)
LAYOUTS: dict[str, tuple[Place, ...]] = {
    # of both encoders the last layer but one, before the final norm, side by side
    "StableDiffusionXLModularPipeline": (
        Place("text_encoder", "encoder.layers.-2"),
        Place("text_encoder_2", "encoder.layers.-2"),
    ),
    "FluxModularPipeline": _T5,
    "FluxKontextModularPipeline": _T5,
}
"""What stands in `prompt_embeds`, from left to right, by the class of the modular pipeline."""


class EraseConcept(ModularPipelineBlocks):
    """Switches an eraser's neurons off in `prompt_embeds`. Prompts on which they are silent keep every bit.

    Several concepts: `EraseConcept(a | b)`, not two blocks, of which the second would read edited embeddings.

    Args:
        eraser: made for a text encoder of the pipeline; that is checked on the first run.
        edit_negative: also edit `negative_prompt_embeds`. Off by default: "negative: nudity" is meant to keep it out.
        allow_mismatch: use it on a text encoder that it was not made for.
    """

    def __init__(self, eraser: ConceptEraser, *, edit_negative: bool = False, allow_mismatch: bool = False) -> None:
        super().__init__()
        self.eraser = eraser
        self.edit_negative = edit_negative
        self.allow_mismatch = allow_mismatch
        self._checked: weakref.ref[nn.Module] | None = None

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
        first, *rest = self._names
        return [
            InputParam(first, type_hint=Tensor, required=True, description=told),
            *(InputParam(name, type_hint=Tensor, description=told) for name in rest),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        told = "the same without the concepts"
        kind = "denoiser_input_fields"
        return [OutputParam(n, type_hint=Tensor, kwargs_type=kind, description=told) for n in self._names]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Edit the embeddings in the state.

        Raises:
            SnceError: the eraser's text encoder is not in `prompt_embeds`, or it is another; or `clip_skip` is set.
        """
        if state.get("clip_skip") is not None:
            raise SnceError("an eraser reads one layer of the text encoder, and clip_skip takes another; leave it out")
        block_state: Any = self.get_block_state(state)
        place = self._place(components)
        for name in self._names:
            embeddings = getattr(block_state, name)
            if embeddings is not None and (name == "prompt_embeds" or embeddings.any()):  # zeros: no negative prompt
                setattr(block_state, name, self._edit(embeddings, place))
        self.set_block_state(state, block_state)
        return components, state

    @property
    def _names(self) -> list[str]:
        return ["prompt_embeds", *["negative_prompt_embeds"] * self.edit_negative]

    def _edit(self, embeddings: Tensor, place: int) -> Tensor:
        d, width = self.eraser.width, embeddings.shape[-1]
        where = slice(0, d) if place == 0 else slice(width - d, width)
        return write_back(embeddings, where, self.eraser.edit(embeddings[..., where]))

    def _place(self, components: Any) -> int:
        """The number of the eraser's text encoder, from left to right; checked when it is seen for the first time."""
        kind = next((c.__name__ for c in type(components).__mro__ if c.__name__ in LAYOUTS), None)
        if kind is None:
            raise SnceError(
                f"{type(components).__name__} is none of those whose prompt_embeds are as text encoders gave them "
                f"({', '.join(LAYOUTS)}); attach the eraser to the text encoder instead: "
                "eraser.attach(TextTower(encoder, tokenizer, module))"
            )
        names = [place.encoder for place in LAYOUTS[kind]]
        if self.eraser.tower not in names:
            raise SnceError(
                f"the eraser is for {self.eraser.tower}, and the prompt_embeds of {kind} are of {' and '.join(names)}"
            )
        place = names.index(self.eraser.tower)
        encoder = getattr(components, self.eraser.tower, None)
        if encoder is not None and encoder.config.hidden_size != self.eraser.width:
            raise SnceError(
                f"the eraser is for embeddings of width {self.eraser.width}, and those of {self.eraser.tower} have "
                f"width {encoder.config.hidden_size}; load an eraser that was made for this model"
            )
        if not self.allow_mismatch:
            self._check(encoder, LAYOUTS[kind][place].module)
        return place

    def _check(self, encoder: nn.Module | None, module: str) -> None:
        if encoder is None:
            raise SnceError(
                f"the pipeline has no {self.eraser.tower} to tell whether the eraser was made for it; load it, or pass "
                "allow_mismatch=True"
            )
        if self._checked is None or self._checked() is not encoder:
            self.eraser.check(TextTower(encoder, None, _counted(encoder, module), self.eraser.tower))
            self._checked = weakref.ref(encoder)  # hashing the weights of a large encoder takes a while


def _counted(encoder: nn.Module, path: str) -> str:
    """`encoder.layers.-2` with the layer's own number."""
    layers, _, last = path.rpartition(".")
    if not last.startswith("-"):
        return path
    return f"{layers}.{len(list(TextTower(encoder, None, layers).module.children())) + int(last)}"
