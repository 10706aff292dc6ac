"""Real modular pipelines of SDXL and FLUX with random weights, each with an eraser of all its towers or of one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from diffusers import FluxAutoBlocks, StableDiffusionXLAutoBlocks

from snce.integrations.places import places_of
from tests.pipelines.flux import flux
from tests.pipelines.rows import PROMPTS
from tests.pipelines.sdxl import WIDTHS, sdxl
from tests.pipelines.test_erasing import eraser_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModularPipelineBlocks

    from snce.erase.eraser import ConceptEraser
    from snce.integrations.modular import EraseConcept

LOUD, SILENT = PROMPTS  # all parts of the erasers fire on one, and none on the other
POOLED = "pooled_prompt_embeds"
(CLIP_L, CLIP_G), (POOLED_G,) = places_of("StableDiffusionXL")
(T5,), (POOLED_L,) = places_of("Flux")


def modular(pipe: DiffusionPipeline, blocks: ModularPipelineBlocks) -> Any:
    """The blocks as a pipeline of the components of `pipe`."""
    made = blocks.init_pipeline()
    made.update_components(**{k: v for k, v in pipe.components.items() if k in made._component_specs and v is not None})
    made.set_progress_bar_config(disable=True)
    return made


class Case(NamedTuple):
    """A pipeline with an eraser."""

    pipe: Any
    blocks: type
    eraser: ConceptEraser
    where: dict[str, dict[str, slice]]
    """By name of the embeddings: the numbers of each part in them, by the part's place."""
    options: dict[str, Any]
    """Of its call."""

    def run(self, prompt: Any, *blocks: EraseConcept, **options: Any) -> Any:
        """The state after drawing with these blocks inserted."""
        chosen = self.blocks()
        for block in blocks:
            block.insert_into(chosen)
        draw = modular(self.pipe, chosen)
        return draw(prompt=prompt, height=16, width=16, num_inference_steps=2, output_type="np",
                    generator=torch.Generator().manual_seed(0), **self.options, **options)  # fmt: skip

    def only(self, place: str) -> Case:
        """With one part of the eraser."""
        (part,) = (part for part in self.eraser.parts if part.place == place)
        where = {name: {place: places[place]} for name, places in self.where.items() if place in places}
        return self._replace(eraser=part, where=where)

    def edited(self, state: Any, prefix: str = "") -> dict[str, torch.Tensor]:
        """All embeddings of the state, with each part of the eraser applied to its numbers."""
        found = {prefix + name: getattr(state, prefix + name).clone() for name in ("prompt_embeds", POOLED)}
        parts = {part.place: part for part in self.eraser.parts}
        for name, places in self.where.items():
            x = found[prefix + name]
            for place, numbers in places.items():
                mine = x[..., numbers].reshape(len(x), -1, parts[place].width)
                x[..., numbers] = parts[place].edit(mine).reshape(x[..., numbers].shape)
        return found


PARTS = {
    "SDXL, CLIP-L": CLIP_L,
    "SDXL, CLIP-G": CLIP_G,
    "SDXL, pooled": POOLED_G,
    "FLUX, T5": T5,
    "FLUX, pooled": POOLED_L,
}


@cache
def all_cases() -> dict[str, Case]:
    """By name; each built once for the tests that leave it as they found it."""
    xl, one = sdxl(), flux()
    sides = {CLIP_L: slice(0, WIDTHS[0]), CLIP_G: slice(WIDTHS[0], sum(WIDTHS))}
    in_xl = {"prompt_embeds": sides, POOLED: {POOLED_G: slice(None)}}
    in_flux = {"prompt_embeds": {T5: slice(None)}, POOLED: {POOLED_L: slice(None)}}
    whole = {
        "SDXL": Case(xl, StableDiffusionXLAutoBlocks, eraser_of(xl), in_xl, {}),
        "FLUX": Case(one, FluxAutoBlocks, eraser_of(one), in_flux, {"max_sequence_length": 64}),
    }
    return whole | {name: whole[name.partition(",")[0]].only(place) for name, place in PARTS.items()}


NAMES = ("SDXL", "FLUX", *PARTS)
