"""`snce export-onnx`: a model's text encoders, with erasers, as ONNX files."""

import logging
from dataclasses import dataclass

from snce.commands.bake import BakeOptions, eraser_files
from snce.commands.console import quiet_libraries, status, stdout

DESCRIPTION = """\
Write the text encoders of a model that the erasers are for, with the erasers in them, as ONNX:
DIR/text_encoder/model.onnx with its config, and DIR/tokenizer, as optimum lays out an exported pipeline. Put them in
the place of those of that pipeline. CLIP, T5 and UMT5. Needs the extra: pip install "snce[onnx]"

In: input_ids, int32 [batch, sequence]. Out: what the denoiser reads, edited, among the outputs that optimum names;
DIR/README.md lists them. Every file is compared with the PyTorch encoder before it is kept.

NEGATIVE PROMPTS ARE EDITED TOO: the file cannot know a negative prompt from a prompt.

Example:
  snce export-onnx emblem --eraser bomb.safetensors --out runs/onnx"""


@dataclass(frozen=True)
class ExportOnnxOptions(BakeOptions):
    """Write a model's text encoders, with erasers in them, as ONNX."""


def run_export_onnx(options: ExportOnnxOptions) -> None:
    """Write the folder, whole or not at all.

    Raises:
        SnceError: see `snce.erase.onnx.export_onnx`; an eraser that is not to be had from the hub.
    """
    erasers = eraser_files(options)
    with status(f"exporting {options.model}"):
        quiet_libraries()
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it would name what needs torchvision, which is unused
        from snce.erase.onnx import export_onnx

        export_onnx(options.model, erasers, options.out)
    stdout().print(f"{options.out} written. Negative prompts are edited too.", soft_wrap=True, markup=False)
