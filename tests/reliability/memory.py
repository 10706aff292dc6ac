"""`python -m tests.reliability.memory KIND FILE`: read a file, print by how much the process grew at most, in bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from snce import checkpoint
from snce.bench.join import read_summary
from snce.bench.rows import read_rows, write_rows
from snce.bench.suites.prompts import load_prompts
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.hub.readme import split
from snce.sae.config import SAEConfig
from snce.sae.formats import load_sae, save_sae
from snce.sae.origin import SAEOrigin
from snce.sae.saelens import load_saelens
from snce.sae.sparsify import load_sparsify
from snce.text.prompts import Concept, read_prompts
from tests.examples import random_embeddings, random_eraser, random_sae

if TYPE_CHECKING:
    from collections.abc import Callable

    from snce.sae.model import SparseAutoencoder

WIDTH, LATENTS = 512, 6000
"""Of the SAEs that are read."""


def a_training() -> tuple[SparseAutoencoder, torch.optim.Optimizer]:
    sae = random_sae(0, SAEConfig(WIDTH, latents=LATENTS, k=8))
    return sae, torch.optim.Adam(sae.parameters())


def checkpoint_reader() -> Callable[[str], object]:
    """Reads the checkpoint of a model that is there already, as one that is trained is."""
    sae, optimizer = a_training()
    return lambda path: checkpoint.load(Path(path), {"sae": sae}, {"adam": optimizer})


def foreign_reader(load: Callable[..., object]) -> Callable[[str], object]:
    """Reads the folder of a file, as an SAE of a text encoder."""
    tower: Any = SimpleNamespace(width=WIDTH, fingerprint="f", name="text_encoder", path="norm", pipeline="")
    data = random_embeddings(0, d=WIDTH)
    return lambda path: load(Path(path).parent, tower, data)


def rows_reader() -> Callable[[str], object]:
    """Reads results, after a small file of them: pyarrow begins its threads."""
    from tests.bench.test_rows import ROW

    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        write_rows(path, [ROW] * 1000, {})
        read_rows([path])
    return lambda path: read_rows([Path(path)])


READERS: dict[str, Callable[[], Callable[[str], object]]] = {
    "eraser": lambda: ConceptEraser.load,
    "sae": lambda: load_sae,
    "checkpoint": checkpoint_reader,
    "saelens": lambda: foreign_reader(load_saelens),
    "sparsify": lambda: foreign_reader(load_sparsify),
    "parquet": rows_reader,
    "txt": lambda: read_prompts,
    "csv": lambda: lambda path: read_prompts(f"{path}:caption"),
    "suite": lambda: lambda path: load_prompts("coco", path),
    "yaml": lambda: Concept.load,
    "readme": lambda: lambda path: split(Path(path).read_text()),
    "json": lambda: lambda path: read_summary(Path(path)),
}
"""Each makes what it needs, and gives what reads."""


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
    read = READERS[kind]()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
    before = memory("VmRSS")
    try:
        result = read(file)
        told = "read"
    except SnceError as error:
        told = " ".join(str(error).split())
    print(memory("VmHWM") - before, told)
