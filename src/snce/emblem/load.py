"""Loading Emblem from the weights inside the package. Nothing is downloaded."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from snce.diffusers_folder import read_pipeline
from snce.emblem.judge import Judge, JudgeNet
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import StableDiffusionPipeline

STEPS = 20
"""Denoising steps that Emblem's pictures are made with by default."""
GUIDANCE = 2.0


def weights_folder() -> Path:
    """The folder with the pipeline, the judge and the vocabulary."""
    with as_file(files("snce.emblem").joinpath("weights")) as folder:
        return folder


def load() -> StableDiffusionPipeline:
    """Emblem as a diffusers pipeline, in float32 on the CPU.

    Raises:
        SnceError: its weights are missing.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    folder = weights_folder() / "pipeline"
    if not (folder / "model_index.json").is_file():
        raise SnceError(f"Emblem is not in this installation: {folder} lacks its weights; reinstall snce")
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    pipe = read_pipeline(folder, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@cache
def load_judge() -> Judge:
    """The judge of Emblem's pictures.

    Raises:
        SnceError: its weights are missing.
    """
    words = vocabulary()
    net = JudgeNet(len(words.objects), len(words.styles))
    path = weights_folder() / "judge.safetensors"
    if not path.is_file():
        raise SnceError(f"Emblem's judge is not in this installation: {path} is missing; reinstall snce")
    state = load_file(path)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return Judge(net, list(words.objects), list(words.styles))
