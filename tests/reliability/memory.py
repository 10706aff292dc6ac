"""`python -m tests.reliability.memory KIND FILE`: read a file, print by how much the process grew at most, in bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from snce.bench.join import read_summary
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.sae.formats import load_sae
from snce.text.prompts import Concept, read_prompts

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


if __name__ == "__main__":
    kind, file = sys.argv[1:]
    torch.set_num_threads(1)
    torch.isfinite(torch.randn(1000)).all()  # what the first product of a process takes is not the file's
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
    before = memory("VmRSS")
    try:
        result = READERS[kind](file)
        told = "read"
    except SnceError as error:
        told = " ".join(str(error).split())
    print(memory("VmHWM") - before, told)
