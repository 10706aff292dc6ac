"""`python -m tests.reliability.memory KIND FILE`: read a file, print by how much the process grew at most, in bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from snce.bench.join import read_summary
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.sae.config import SAEConfig
from snce.sae.formats import load_sae, save_sae
from snce.sae.origin import SAEOrigin
from snce.text.prompts import Concept, read_prompts
from tests.examples import random_eraser, random_sae

READERS = {
    "eraser": ConceptEraser.load,
    "sae": load_sae,
    "txt": read_prompts,
    "csv": lambda path: read_prompts(f"{path}:caption"),
    "yaml": Concept.load,
    "json": lambda path: read_summary(Path(path)),
}


def memory(name: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{name}:")[1].split()[0])


def warm_up() -> None:
    """Read small files: what the first one makes PyTorch import is not the file's."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        random_eraser(0).save(path)
        ConceptEraser.load(path)
        save_sae(random_sae(0, SAEConfig(8, latents=12, k=3)), path, SAEOrigin("f"))
        load_sae(path)


if __name__ == "__main__":
    kind, file = sys.argv[1:]
    torch.set_num_threads(1)
    warm_up()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
    before = memory("VmRSS")
    try:
        result = READERS[kind](file)
        told = "read"
    except SnceError as error:
        told = " ".join(str(error).split())
    print(memory("VmHWM") - before, told)
