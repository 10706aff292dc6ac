"""The options of `snce find`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from snce.errors import SnceError


@dataclass(frozen=True)
class FindOptions:
    """Find the neurons of concepts and write erasers."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """"emblem", a diffusers folder, or a hub id: the model that the SAE was trained on."""
    sae: Annotated[str, tyro.conf.arg(metavar="DIR|hf://...")]
    """Folder that `snce train` wrote, or hf://OWNER/NAME for an SAE on the hub."""
    concept: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME|FILE.yaml|DIR")]
    """A bundled concept (`snce concepts` lists them), a concept file, or a folder of concept files. For several, give
    it several times, or names with commas between them."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.safetensors|DIR")]
    """The eraser; of several concepts, the folder for NAME.safetensors of each."""
    rule: Literal["modulated", "frequency", "difference", "saeuron", "itd", "auroc"] = "modulated"
    """Score by which the neurons are ranked: see `snce.neurons.scores`."""
    neurons: int = 1
    """How many of the best neurons to switch off."""
    strength: float = 1.25
    """1 takes out what the neurons stand for, more pushes past zero, 0 leaves everything as it is."""
    top: int = 10
    """How many neurons to show."""
    device: str = "auto"
    """Where the model runs: cpu, cuda, cuda:1, mps; "auto" takes CUDA where there is one."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense. Not in `__post_init__`: the parser would frame the message."""
        for name in ("neurons", "top"):
            if getattr(self, name) < 1:
                raise SnceError(f"--{name} {getattr(self, name)} must be at least 1")
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise SnceError(f"--strength {self.strength} must be a number that is not negative")
