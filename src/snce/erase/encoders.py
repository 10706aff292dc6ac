"""The text encoders of a pipeline's folder, with the towers that are read of them; its denoiser is not loaded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from snce.diffusers_folder import without_torchvision_notice
from snce.errors import SnceError, first_line
from snce.text.families import rows_of
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from snce.erase.eraser import ConceptEraser

ENCODERS = (
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "T5EncoderModel",
    "UMT5EncoderModel",
    "Gemma2Model",
    "Qwen3Model",
    "Qwen3ForCausalLM",
    "Qwen2_5_VLForConditionalGeneration",
    "Mistral3ForConditionalGeneration",
)
"""Encoder classes that can be baked: each has its counterpart in `snce.erase.baked`, named Erased..."""


def load_encoder(folder: Path, index: Mapping[str, Any], name: str) -> PreTrainedModel:
    """The text encoder that a pipeline's folder has under `name`, in the dtype of its files.

    Raises:
        SnceError: there is none, or one that cannot be baked, is damaged, or is only to be had as pickle.
    """
    if name not in index or index[name][0] is None:
        raise SnceError(f"the model has no {name}, which this eraser is for")
    library, kind = index[name]
    if kind in [f"Erased{encoder}" for encoder in ENCODERS]:
        raise SnceError(
            f"the {name} of this model is baked already; take the model that it was made from, with all erasers"
        )
    if library != "transformers" or kind not in ENCODERS:
        raise SnceError(f"{library}.{kind} cannot be baked; {', '.join(ENCODERS)} can")
    return _read(folder / name, kind)


def load_tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer of the text encoder `name`.

    Raises:
        SnceError: it is damaged or missing.
    """
    from transformers import AutoTokenizer

    place = folder / name.replace("text_encoder", "tokenizer")
    with _damage_is_named(place):
        return AutoTokenizer.from_pretrained(place)


def towers_of(
    folder: Path, index: Mapping[str, Any], encoders: Mapping[str, PreTrainedModel], parts: Sequence[ConceptEraser]
) -> dict[str, TextTower]:
    """The tower of each part of an eraser, by its place.

    Where the pipeline hands the encoder's output on, its own templates and masks bear on the edit, and the pipeline is
    asked for them. A place that its class is not known to read is that of a bare encoder.

    Args:
        encoders: by name, all that the parts are for.

    Raises:
        SnceError: an encoder has no such place, or the pipeline cannot be loaded.
    """
    bare = {
        part.place: TextTower(encoders[part.tower], load_tokenizer(folder, part.tower), part.module, part.tower)
        for part in parts
        if not part.module.startswith("output.")
    }
    if len(bare) == len(parts):
        return bare
    known: dict[str, TextTower] = {}
    if _is_known(index["_class_name"]):
        known = {tower.place: tower for tower in TextTower.all_of(_pipeline(folder, index, encoders))}
    for part in parts:
        if part.place not in known and part.place not in bare:
            tokenizer = load_tokenizer(folder, part.tower)
            bare[part.place] = TextTower(encoders[part.tower], tokenizer, part.module, part.tower)
    return known | bare


def _is_known(pipeline: str) -> bool:
    try:
        return bool(rows_of(pipeline))
    except SnceError:
        return False


def _pipeline(folder: Path, index: Mapping[str, Any], encoders: Mapping[str, PreTrainedModel]) -> Any:
    """The pipeline without what it does not need to encode prompts."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    rows = rows_of(index["_class_name"])
    parts = {name for name, value in index.items() if isinstance(value, list) and value[0] is not None}
    needed = {row.encoder for row in rows} & parts
    others = {name: _read(folder / name, index[name][1]) for name in needed - encoders.keys()
              if index[name][0] == "transformers"}  # fmt: skip
    unused = parts - needed - {row.tokenizer for row in rows} - {"scheduler"}
    try:
        with without_torchvision_notice():
            return DiffusionPipeline.from_pretrained(folder, **dict.fromkeys(unused), **encoders, **others)
    except Exception as error:  # of diffusers, transformers, or a library that a tokenizer needs
        raise SnceError(
            f"cannot load {index['_class_name']} to see what it makes of a prompt: {str(error).strip()[:200]}"
        ) from error


def _read(folder: Path, kind: str) -> PreTrainedModel:
    import transformers

    with _damage_is_named(folder), without_torchvision_notice():
        return getattr(transformers, kind).from_pretrained(folder, use_safetensors=True, dtype="auto").eval()


@contextmanager
def _damage_is_named(folder: Path) -> Iterator[None]:
    try:
        yield
    # a missing or damaged file surfaces as nearly any exception of transformers or safetensors
    except Exception as error:
        raise SnceError(f"cannot load {folder}: {first_line(error)}") from error
