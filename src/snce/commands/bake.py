"""`snce bake`: a copy of a model whose text encoders carry its erasers in themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from snce.commands.console import quiet_libraries, status, stdout

DESCRIPTION = """\
Write a copy of a model, as a diffusers folder, whose text encoders carry the erasers in themselves: whoever loads it
cannot forget them. Plain diffusers loads it, without snce:

  DiffusionPipeline.from_pretrained(DIR, torch_dtype=torch.float32, trust_remote_code=True)

The code that this runs is one short file in the folder; without it the folder does not load. Pictures are, bit for bit,
those of the model with the erasers attached.

NEGATIVE PROMPTS ARE EDITED TOO: a baked encoder cannot know a negative prompt from a prompt. "negative: a bomb" no
longer keeps a bomb out once "bomb" is baked.

Examples:
  snce bake emblem --eraser bomb.safetensors --out runs/emblem-without-bomb
  snce bake path/to/model --eraser bomb.safetensors --eraser axe.safetensors --out runs/safer
  snce generate runs/emblem-without-bomb --prompt "a bomb" --out after.png"""


@dataclass(frozen=True)
class BakeOptions:
    """Write a copy of a model whose text encoders carry its erasers in themselves."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """"emblem", a diffusers folder, or a hub id."""
    eraser: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="FILE.safetensors|hf://...")]
    """An eraser that was made for this model, here or on the hub: hf://OWNER/NAME/FILE.safetensors. Give it several
    times for several concepts."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder to write; it must not exist, or be empty."""


def run_bake(options: BakeOptions) -> None:
    """Write the folder, whole or not at all.

    Raises:
        SnceError: see `snce.erase.bake.bake`; an eraser that is not to be had from the hub.
    """
    erasers = eraser_files(options)
    with status(f"baking {options.model}"):
        quiet_libraries()
        from snce.erase.bake import bake

        bake(options.model, erasers, options.out)
    stdout().print(
        f"{options.out} written; load it with "
        f'DiffusionPipeline.from_pretrained("{options.out}", torch_dtype=torch.float32, trust_remote_code=True)\n'
        "Negative prompts are edited too: see its README.md.",
        soft_wrap=True,
        markup=False,
    )


def eraser_files(options: BakeOptions) -> list[Path]:
    """Where the erasers lie; those on the hub are fetched.

    Raises:
        SnceError: one is not to be had from the hub.
    """
    from snce.commands.hub_files import local_file
    from snce.erase.eraser import ConceptEraser

    return [local_file(name, ConceptEraser.hub_file) for name in options.eraser]
