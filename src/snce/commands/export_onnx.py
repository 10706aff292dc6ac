"""`snce export-onnx`: a model's text encoder, with erasers, as an ONNX file."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from snce.commands.console import quiet_libraries, stderr, stdout

DESCRIPTION = """\
Write a model's text encoder, with the erasers in it, as ONNX: DIR/text_encoder/model.onnx with its config, and
DIR/tokenizer, as optimum lays out an exported pipeline. Put it in the place of that pipeline's text_encoder.
Needs the extra: pip install "snce[onnx]"

In: input_ids, int32 [batch, sequence]. Out: last_hidden_state, float32 [batch, sequence, d], edited; pooler_output.
The file is compared with the PyTorch encoder before it is kept.

NEGATIVE PROMPTS ARE EDITED TOO: the file cannot know a negative prompt from a prompt.

Example:
  snce export-onnx emblem --eraser bomb.safetensors --out runs/onnx"""


@dataclass(frozen=True)
class ExportOnnxOptions:
    """Write a model's text encoder, with erasers in it, as ONNX."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """"emblem", a diffusers folder, or a hub id."""
    eraser: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="FILE.safetensors")]
    """An eraser that was made for this model; give it several times for several concepts."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder to write; it must not exist, or be empty."""


def run_export_onnx(options: ExportOnnxOptions) -> None:
    """Write the folder, whole or not at all.

    Raises:
        SnceError: see `snce.erase.onnx.export_onnx`.
    """
    with stderr().status(f"exporting {options.model}"):
        quiet_libraries()
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it would name what needs torchvision, which is unused
        from snce.erase.onnx import export_onnx

        export_onnx(options.model, options.eraser, options.out)
    stdout().print(f"{options.out} written. Negative prompts are edited too.", soft_wrap=True, markup=False)
