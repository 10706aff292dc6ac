"""The options of `snce generate`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from snce.engines.spread import check_engine
from snce.errors import SnceError


@dataclass(frozen=True)
class GenerateOptions:
    """Draw prompts, with erasers if you like."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """"emblem", a diffusers folder, or a hub id."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.png|DIR")]
    """The picture; with --prompts, a folder for the pictures."""
    prompt: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="TEXT")] = ()
    """What to draw; give it several times for a grid of several prompts."""
    prompts: Annotated[str | None, tyro.conf.arg(metavar="FILE.txt|FILE.csv:COLUMN")] = None
    """What to draw, from a file: DIR/000001.png is the first, and DIR/prompts.csv a list."""
    eraser: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="FILE.safetensors|hf://...")
    ] = ()
    """An eraser, here or on the hub: hf://OWNER/NAME/FILE.safetensors. Give it several times for several concepts."""
    strength: float | None = None
    """Strength of all erasers, in place of their own."""
    allow_mismatch: bool = False
    """Use erasers also on a text encoder that they were not made for."""
    negative_prompt: str | None = None
    """What to keep out of the pictures; erasers leave it alone."""
    seed: int = 0
    """Seed of the initial noise, the same for every prompt."""
    steps: int | None = None
    """Denoising steps; the model's default where left out."""
    guidance_scale: float | None = None
    """Weight of the prompt against no prompt; the model's default where left out."""
    height: int | None = None
    """Pixels; the model's default where left out. Give both, --height and --width."""
    width: int | None = None
    """Pixels; the model's default where left out."""
    device: str = "auto"
    """Where the model runs: cpu, cuda, cuda:1, mps; "auto" takes CUDA where there is one."""
    engine: Literal["local", "ray"] = "local"
    """"local": this machine. "ray": the Ray cluster that RAY_ADDRESS names or this machine belongs to, else one of this
    machine alone (pip install 'snce[ray]'). The pictures are the same."""
    workers: int | None = None
    """Processes, each with the model and one thread. Left out: this process with all its threads; with --engine ray,
    one per core of this machine. The number of threads may change the last bits of a picture, the number of processes
    does not."""
    shard: str = "1/1"
    """This machine's share of --prompts: 3/8 is the third of eight."""
    separate: bool = False
    """One file per prompt, FILE-1.png, FILE-2.png and so on, in place of a grid."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense. Not in `__post_init__`: the parser would frame the message."""
        from snce.text.unicode import check_unicode

        if not self.prompt and self.prompts is None:
            raise SnceError('nothing to draw: give --prompt "..." once or more, or --prompts FILE')
        if self.prompts is not None and (self.prompt or self.separate):
            raise SnceError("--prompts has a file for each picture: leave --prompt and --separate out")
        if self.prompts is None and self.shard != "1/1":
            raise SnceError("--shard shares the prompts of a file: give --prompts FILE")
        check_engine(self.engine, self.workers)
        check_unicode((*self.prompt, self.negative_prompt or ""))
        for name in ("steps", "height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SnceError(f"--{name} {value} must be at least 1")
        for name in ("strength", "guidance_scale"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise SnceError(f"--{name.replace('_', '-')} {value} must be a finite number")
        if (self.height is None) != (self.width is None):  # some pipelines then ignore the one that is given
            raise SnceError("give --height and --width together")
        if not self.eraser and (self.strength is not None or self.allow_mismatch):
            raise SnceError("--strength and --allow-mismatch are for erasers: give --eraser FILE, or leave them out")
        if not 0 <= self.seed < 2**63:
            raise SnceError(f"--seed {self.seed} must lie between 0 and 2^63 - 1")
