"""Which output of which text encoder a family's denoiser receives, and where: the facts that snce's table of towers
relies on. `test_hook_points.py` proves each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.pipelines import language_models, sd3, sdxl

EVERYTHING = slice(None)


class Region(NamedTuple):
    """Part of one row of an argument of the denoiser: of each vector, from position `start` on, the numbers `width`."""

    argument: str
    start: int = 0
    width: slice = EVERYTHING


@dataclass(frozen=True)
class HookPoint:
    """A module of a text encoder, and the field of the encoder's output that is the same tensor."""

    encoder: str
    tokenizer: str
    module: str
    """Dotted path in the encoder; -2 is the last layer but one."""
    output: tuple[str | int, ...]
    """The field that the pipeline reads, and the index in it. Empty: the encoder itself is never called."""
    lands: Region | None
    """Where the denoiser receives it, bit for bit. None: only what other models make of it."""
    takes: str = "all"
    """Which positions of the module's output stand there, in order: a key of `TAKES` in `tests.pipelines.spy`."""
    flows: tuple[Region, ...] = ()
    """What else of the denoiser's input the module reaches, through later layers of its encoder; the field does not."""
    onward: tuple[Region, ...] = ()
    """What else both reach, through models that the pipeline puts after the encoder."""


@dataclass(frozen=True)
class Family:
    points: tuple[HookPoint, ...]
    padding: str
    """What becomes of the positions of padding: "read" (the denoiser attends to them), "masked", "zeros", or "cut"."""
    masks: tuple[str, ...] = ()
    """Arguments with which the denoiser receives an attention mask of the text."""
    encodings: int = 1
    """Calls of `encode_prompt` for a prompt with a negative prompt: 1 for both, the prompt first; 2 for one each."""
    batch: str = "negative, prompt"
    """How the denoiser's batch is made of the two; "separate": two calls of the denoiser, for the prompt first."""
    guided: dict[str, Any] = field(default_factory=dict)
    """Options that turn guidance with a negative prompt on."""
    negative: str | None = "given"
    """"given": the user's; "empty": always ""; None: the pipeline has none."""
    without: str = "empty"
    """What stands in for a negative prompt that is not given: the "empty" one, "zeros", or "nothing": no guidance."""
    several: bool = True
    """Whether it makes several pictures per prompt when told to."""
    disordered: tuple[str, ...] = ()
    """Arguments whose rows several pictures per prompt repeat as p0 p1 p0 p1, while all others go p0 p0 p1 p1."""


def _clip(number: str, module: str, output: tuple[str | int, ...], lands: Region, **more: Any) -> HookPoint:
    return HookPoint(f"text_encoder{number}", f"tokenizer{number}", module, output, lands, **more)


def _t5(number: str, lands: Region, **more: Any) -> HookPoint:
    module = "encoder.final_layer_norm"
    return HookPoint(f"text_encoder{number}", f"tokenizer{number}", module, ("last_hidden_state",), lands, **more)


TEXT = "encoder_hidden_states"
MASK = "encoder_attention_mask"

STABLE_DIFFUSION = Family((_clip("", "final_layer_norm", ("last_hidden_state",), Region(TEXT)),), padding="read")

_SDXL_POOLED = Region("added_cond_kwargs.text_embeds")
_FIRST, _SECOND = slice(0, sdxl.WIDTHS[0]), slice(sdxl.WIDTHS[0], sum(sdxl.WIDTHS))
SDXL = Family(
    (
        _clip("", "encoder.layers.-2", ("hidden_states", -2), Region(TEXT, width=_FIRST)),
        _clip("_2", "text_model.encoder.layers.-2", ("hidden_states", -2), Region(TEXT, width=_SECOND),
              flows=(_SDXL_POOLED,)),
        _clip("_2", "text_projection", ("text_embeds",), _SDXL_POOLED),
    ),
    padding="read",
    without="zeros",
)  # fmt: skip

_POOLED = "pooled_projections"
_POOL_1, _POOL_2 = slice(0, sd3.PROJECTIONS[0]), slice(sd3.PROJECTIONS[0], sum(sd3.PROJECTIONS))
SD3 = Family(
    (
        _clip("", "text_model.encoder.layers.-2", ("hidden_states", -2), Region(TEXT, width=slice(0, sd3.WIDTHS[0])),
              flows=(Region(_POOLED, width=_POOL_1),)),
        _clip("_2", "text_model.encoder.layers.-2", ("hidden_states", -2),
              Region(TEXT, width=slice(sd3.WIDTHS[0], sum(sd3.WIDTHS))), flows=(Region(_POOLED, width=_POOL_2),)),
        _clip("", "text_projection", ("text_embeds",), Region(_POOLED, width=_POOL_1)),
        _clip("_2", "text_projection", ("text_embeds",), Region(_POOLED, width=_POOL_2)),
        _t5("_3", Region(TEXT, start=16)),  # after CLIP's positions, 77 in the released one
    ),
    padding="read",
)  # fmt: skip

FLUX = Family(
    (
        _clip("", "final_layer_norm", ("pooler_output",), Region(_POOLED), takes="end"),
        _t5("_2", Region(TEXT)),
    ),
    padding="read",
    encodings=2,
    batch="separate",
    guided={"true_cfg_scale": 2.0},
    without="nothing",
)

_FLUX2_WIDTH = language_models.FLUX2_WIDTH


def _flux2(layers: str, numbers: tuple[int, int, int]) -> tuple[HookPoint, ...]:
    """Three layers side by side; what one puts out goes on into the next two."""
    thirds = [slice(i * _FLUX2_WIDTH, (i + 1) * _FLUX2_WIDTH) for i in range(3)]
    return tuple(
        HookPoint(
            "text_encoder",
            "tokenizer",
            f"{layers}.{number - 1}",
            ("hidden_states", number),
            Region(TEXT, width=thirds[i]),
            flows=tuple(Region(TEXT, width=third) for third in thirds[i + 1 :]),
        )
        for i, number in enumerate(numbers)
    )


def _language_model(module: str, output: tuple[str | int, ...], argument: str, takes: str) -> HookPoint:
    return HookPoint("text_encoder", "tokenizer", module, output, Region(argument), takes)


FAMILY_FACTS: dict[str, Family] = {
    "StableDiffusionPipeline": STABLE_DIFFUSION,
    "StableDiffusionImg2ImgPipeline": STABLE_DIFFUSION,
    "StableDiffusionInpaintPipeline": STABLE_DIFFUSION,
    "StableDiffusionControlNetPipeline": STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": SDXL,
    "StableDiffusionXLImg2ImgPipeline": SDXL,
    "StableDiffusionXLInpaintPipeline": SDXL,
    "StableDiffusionXLControlNetPipeline": SDXL,
    "StableDiffusion3Pipeline": SD3,
    "FluxPipeline": FLUX,
    "PixArtAlphaPipeline": Family((_t5("", Region(TEXT)),), padding="masked", masks=(MASK,)),
    "PixArtSigmaPipeline": Family((_t5("", Region(TEXT)),), padding="masked", masks=(MASK,)),
    "WanPipeline": Family((_t5("", Region(TEXT), takes="tokens"),), padding="zeros", batch="separate"),
    "CogVideoXPipeline": Family((_t5("", Region(TEXT)),), padding="read", several=False),
    "SanaPipeline": Family(
        (_language_model("norm", ("last_hidden_state",), TEXT, "the first and the last 299"),),
        padding="masked",
        masks=(MASK,),
        disordered=(MASK,),
    ),
    "QwenImagePipeline": Family(
        (_language_model("model.language_model.norm", ("hidden_states", -1), TEXT, "tokens from the 35th"),),
        padding="cut",
        masks=("encoder_hidden_states_mask",),
        encodings=2,
        batch="separate",
        without="nothing",
        disordered=("encoder_hidden_states_mask",),
    ),
    "ZImagePipeline": Family(
        (_language_model("layers.-2", ("hidden_states", -2), "cap_feats", "tokens"),),
        padding="cut",
        batch="prompt, negative",
    ),
    "Flux2Pipeline": Family(
        _flux2("model.language_model.layers", (10, 20, 30)),
        padding="read",
        batch="separate",
        negative=None,
        without="nothing",
    ),
    "Flux2KleinPipeline": Family(
        _flux2("model.layers", (9, 18, 27)), padding="read", encodings=2, batch="separate", negative="empty"
    ),
    "AudioLDM2Pipeline": Family(
        (
            _t5("_2", Region("encoder_hidden_states_1"), onward=(Region(TEXT),)),
            # CLAP's features are normalised, and reach the denoiser through GPT-2 only; T5's do that too
            HookPoint("text_encoder", "tokenizer", "text_projection", (), None, onward=(Region(TEXT),)),
        ),
        padding="masked",
        masks=("encoder_attention_mask_1",),
    ),
}
"""By the class name of the pipeline."""
