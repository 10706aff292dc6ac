"""Which outputs of which text encoders the denoiser of a pipeline reads: a table. A new pipeline is one row."""

from __future__ import annotations

from dataclasses import dataclass

from snce.errors import SnceError


@dataclass(frozen=True)
class TowerRow:
    """One tower of a pipeline."""

    encoder: str
    """Attribute of the pipeline that holds the encoder."""
    tokenizer: str
    path: str
    """Where the encoder is read: see `snce.text.reading.Reading`."""
    pads: bool = False
    """Whether the denoiser reads padding, too, although the encoder is told to ignore it."""
    call: str = ""
    """Method of the encoder that the pipeline calls instead of the encoder itself."""
    entry: str = ""
    """Module of the encoder that is handed the tokens; empty for the encoder itself."""


def _t5(encoder: str = "text_encoder", tokenizer: str = "tokenizer", pads: bool = False) -> TowerRow:
    return TowerRow(encoder, tokenizer, "output.last_hidden_state", pads)


_CLIP_L = TowerRow("text_encoder", "tokenizer", "output.hidden_states[-2]")
_CLIP_G = TowerRow("text_encoder_2", "tokenizer_2", "output.hidden_states[-2]")
_POOLED_G = TowerRow("text_encoder_2", "tokenizer_2", "output.text_embeds")

FAMILIES: dict[str, tuple[TowerRow, ...]] = {
    # the final norm, not the last hidden state: with clip_skip, the pipeline applies it once more, by itself
    "StableDiffusion": (TowerRow("text_encoder", "tokenizer", "final_layer_norm"),),
    "StableDiffusionXL": (_CLIP_L, _CLIP_G, _POOLED_G),
    "StableDiffusion3": (
        _CLIP_L,
        TowerRow("text_encoder", "tokenizer", "output.text_embeds"),
        _CLIP_G,
        _POOLED_G,
        _t5("text_encoder_3", "tokenizer_3"),
    ),
    "Flux": (TowerRow("text_encoder", "tokenizer", "output.pooler_output"), _t5("text_encoder_2", "tokenizer_2")),
    # padding stands before the prompt and cannot know it
    "Flux2": (TowerRow("text_encoder", "tokenizer", "output.hidden_states[10,20,30]"),),
    "Flux2Klein": (TowerRow("text_encoder", "tokenizer", "output.hidden_states[9,18,27]", pads=True),),
    "PixArtAlpha": (_t5(),),
    "PixArtSigma": (_t5(),),
    "Sana": (TowerRow("text_encoder", "tokenizer", "output.last_hidden_state"),),
    "QwenImage": (TowerRow("text_encoder", "tokenizer", "output.hidden_states[-1]"),),
    "ZImage": (TowerRow("text_encoder", "tokenizer", "output.hidden_states[-2]"),),
    "CogVideoX": (_t5(),),
    "Wan": (_t5(),),
    "AudioLDM2": (
        # the pipeline asks CLAP for its text features: its root never runs
        TowerRow("text_encoder", "tokenizer", "text_projection", call="get_text_features", entry="text_model"),
        _t5("text_encoder_2", "tokenizer_2"),
    ),
}
"""Towers by the beginning of the pipeline's class name; `VARIANTS` has how it may go on."""

VARIANTS = frozenset(
    ("", "Adapter", "Animate", "AttendAndExcite", "Depth2Img", "DiffEdit", "Fill", "FunControl", "GLIGEN",
     "GLIGENTextImage", "Img2Img", "Inpaint", "ImageToVideo", "Kontext", "KontextInpaint", "LDM3D", "Panorama", "SAG",
     "Sprint", "SprintImg2Img", "Upscale", "VACE", "Video", "VideoToVideo",
     "Control", "ControlImg2Img", "ControlInpaint", "ControlNet", "ControlNetImg2Img", "ControlNetInpaint",
     "ControlNetInpainting", "ControlNetPAG", "ControlNetPAGImg2Img", "ControlNetPAGInpaint", "ControlNetUnion",
     "ControlNetUnionImg2Img", "ControlNetUnionInpaint", "ControlNetXS", "PAG", "PAGImg2Img", "PAGInpaint")
)  # fmt: skip
"""Of those that diffusers has, they encode prompts by the same code as their family's plain pipeline."""
_OTHERS = frozenset({"SanaPAGPipeline", "Flux2KleinKVPipeline"})
"""They do not."""


def rows_of(pipeline: str) -> tuple[TowerRow, ...]:
    """The towers of a pipeline, by the name of its class.

    Raises:
        SnceError: it is not in the table.
    """
    name = pipeline.removesuffix("Pipeline")
    for family in sorted(FAMILIES, key=len, reverse=True):
        if name.startswith(family) and name[len(family) :] in VARIANTS and pipeline not in _OTHERS:
            return FAMILIES[family]
    raise SnceError(
        f"{pipeline} is not a known pipeline ({', '.join(f'{family}Pipeline' for family in FAMILIES)}, and most of "
        "their variants); name its parts yourself, and attach to that: TextTower(pipe.text_encoder, pipe.tokenizer, "
        "path='output.last_hidden_state') for what the encoder returns, or path='final_layer_norm' for a module in it"
    )
