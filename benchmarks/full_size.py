"""What the text side of Stable Diffusion 1.4 costs at full size: harvesting, training, finding. For recipes/sd14.

python -m benchmarks.full_size --captions captions.csv:caption --out build/full_size
python benchmarks/document.py recipes/sd14/README.md full-size build/full_size/table.md

A CLIP ViT-L/14 text encoder with random weights (time and memory do not ask what the weights are), a vocabulary of
49,408 learned on the captions. Each measurement runs in a process of its own, so that its peak is its own. Captions are
harvested as far as --harvest says; their embeddings are then repeated up to --rows, so that what grows with the number
of captions (the file, the start of a training, its metrics) is measured and not extrapolated.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import sd14_shapes, text_costs
from benchmarks.text_costs import CALIBRATION, NEUTRALS, TARGETS, Spent

from snce.storage import write_text
from snce.text.prompts import read_prompts

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = ((2048, 8), (12_288, 32))
"""(latents, k): the defaults of `snce train`, and those of the recipe."""


class Measured(NamedTuple):
    """A row of the table."""

    name: str
    spent: Spent
    peak: int
    """Largest resident memory of the process, bytes; pages of a memory-mapped file count."""
    disk: int = 0
    """What is left on disk, bytes."""


def in_process(threads: int, work: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """The result, and the peak of resident memory in bytes."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_here, threads, work, arguments).result()


def _here(threads: int, work: Callable[..., Any], arguments: tuple) -> tuple[Any, int]:
    import torch

    torch.set_num_threads(threads)
    result = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return result, peak if sys.platform == "darwin" else 1024 * peak


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size


def table(rows: list[Measured], parts: dict[str, int], threads: int) -> str:
    lines = ["| step | seconds | CPU seconds | peak memory | on disk |", "|---" * 5 + "|"]
    for name, spent, peak, nbytes in rows:
        disk = f"{nbytes / 1e6:,.0f} MB" if nbytes else ""
        lines.append(f"| {name} | {spent.seconds:,.0f} | {spent.cpu:,.0f} | {peak / 1e9:.1f} GB | {disk} |")
    counted = ", ".join(f"{name} {nbytes / 1e9:.2f} GB" for name, nbytes in parts.items())
    return "\n".join([*lines, "", f"Threads: {threads}. Stable Diffusion 1.4 in float32, counted:", f"{counted}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", required=True, metavar="FILE.csv:COLUMN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--harvest", type=int, default=1000, help="captions that are harvested")
    parser.add_argument("--rows", type=int, default=30_000, help="rows that they are repeated to")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    captions, out, rows = read_prompts(args.captions), args.out, []
    few = captions[: args.harvest]

    def measured(name: str, disk: Path | None, work: Callable[..., Spent], *arguments: Any) -> None:
        spent, peak = in_process(args.threads, work, *arguments)
        rows.append(Measured(name, spent, peak, size(disk) if disk else 0))
        print(rows[-1], flush=True)

    out.mkdir(parents=True, exist_ok=True)
    in_process(args.threads, sd14_shapes.make_model, out / "model", captions)
    harvested = out / "harvested"
    measured(f"harvest {len(few):,} captions", harvested, text_costs.harvest_captions, out / "model", harvested, few)
    in_process(args.threads, text_costs.repeat, harvested, out / "repeated", args.rows)
    for latents, k in SIZES:
        sae, which, data = out / f"{latents}", f"{latents:,} latents, k = {k}", out / "repeated"
        for dead_after, told in ((150, "no latent is dead"), (0, "AuxK in each")):
            work = (text_costs.train_steps, data, len(few), latents, k, dead_after)
            measured(f"{which}: 100 training steps, {told}", None, *work)
        whole = f"... start and metrics of a training on {args.rows:,} captions"
        measured(whole, sae, text_costs.train_once, data, sae, latents, k)
        measured(f"... thresholds, on {CALIBRATION:,} captions", None, text_costs.calibrate, data, sae)
        measured(f"... ranking on half of {TARGETS:,} + {NEUTRALS:,} prompts", None, text_costs.find, data, sae)
    parts, _ = in_process(args.threads, sd14_shapes.parts_of_sd14)
    text = table(rows, parts, args.threads)
    write_text(out / "table.md", text)
    print(text)


if __name__ == "__main__":
    main()
