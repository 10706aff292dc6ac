"""Loading a text-to-image pipeline by name. Weights are read from safetensors files only: nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snce.diffusers_folder import read_pipeline
from snce.errors import SnceError, first_line

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

EMBLEM = "emblem"
"""Name of the model that comes with the package."""


def load_pipeline(model: str) -> DiffusionPipeline:
    """The pipeline called `model`, in float32 on the CPU.

    Args:
        model: "emblem" for the bundled model, a diffusers folder, or a hub id such as
            "stable-diffusion-v1-5/stable-diffusion-v1-5".

    Raises:
        SnceError: no such folder or hub id, no diffusers pipeline, damaged weights, or weights that are only to be
            had as pickles.
    """
    if model == EMBLEM:
        from snce.emblem.load import load

        return load()
    _refuse_what_is_no_model(model)
    from snce.erase.baked_folder import has_our_code

    folder = Path(model).expanduser()
    try:
        # a baked pipeline: the code in its folder is this library's own, byte for byte, and so may run
        return read_pipeline(str(folder) if folder.is_dir() else model, trust_remote_code=has_our_code(folder))
    # a missing or damaged file surfaces as nearly any exception of diffusers, transformers, safetensors or the hub
    except Exception as error:
        where = "" if folder.is_dir() else " from the hub or its local cache (mistyped, or offline?)"
        raise SnceError(f"cannot load model {model!r}{where}: {first_line(error)}") from error


def name_for_workers(model: str) -> str:
    """The name of the same pipeline for processes in other working folders."""
    from snce.engines.spread import for_all_workers

    return model if model == EMBLEM else for_all_workers(model)


def pipeline_folder(model: str) -> Path:
    """The folder with the files of the pipeline called `model`, downloaded if need be.

    Raises:
        SnceError: as `load_pipeline`.
    """
    if model == EMBLEM:
        from snce.emblem.load import weights_folder

        return weights_folder() / "pipeline"
    _refuse_what_is_no_model(model)
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(model, use_safetensors=True))
    except Exception as error:  # as in `load_pipeline`
        raise SnceError(f"cannot download model {model!r} (mistyped, or offline?): {first_line(error)}") from error


def _refuse_what_is_no_model(model: str) -> None:
    if not model.strip():
        raise SnceError("the model's name is empty; give 'emblem', a diffusers folder, or a hub id")
    path = Path(model).expanduser()
    if path.is_file():
        raise SnceError(
            f"{model} is a file; give the folder of a diffusers pipeline (a single-file checkpoint can be converted: "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(folder))"
        )
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise SnceError(f"{model} is no diffusers pipeline: it has no model_index.json")
        return
    if model.count("/") != 1 or model.startswith((".", "~", "/")) or "\\" in model:
        raise SnceError(
            f"unknown model {model!r}: no such folder, and no hub id of the form owner/name; {EMBLEM!r} is bundled"
        )
