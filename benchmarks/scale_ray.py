"""What the driver of a Ray cluster spends on the embeddings that it is handed, and what it would spend with Ray Data.

    python -m benchmarks.scale_ray --out build/scale-ray.md    with the extra ray, and ray[data] to compare with
    python benchmarks/document.py docs/scale.md scale-ray build/scale-ray.md

CPU seconds of the driver, medians of several rounds, per prompt of a block of embeddings of CLIP ViT-L/14.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
from benchmarks.machine import machine
from benchmarks.scale import BLOCK, CLIP, Cost, cpu_seconds, table

from snce.storage import write_text


class _Blocks:
    """Hands out the embeddings of a block; in a Ray Data pipeline, of each of its rows."""

    x = np.zeros((BLOCK, *CLIP), np.float16)

    def __call__(self, rows: dict) -> dict:
        return {"x": self.x[None].repeat(len(rows["item"]), 0)}


def _begin() -> None:
    pass


def _block(number: int) -> tuple[int, np.ndarray]:
    return number, np.zeros((BLOCK, *CLIP), np.float16)


def of_ray(items: int) -> list[Cost]:
    """What the driver spends on a block of embeddings that an actor hands over: here, and with Ray Data."""
    import ray

    from snce.engines.spread import spread

    ray.init("local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)

    def pool() -> None:
        for _ in spread("ray", 1, _begin, (), _block, ((i,) for i in range(items))):
            pass

    def data() -> None:
        import ray.data

        rows = ray.data.from_items([{"item": i} for i in range(items)], override_num_blocks=items)
        one = ray.data.ActorPoolStrategy(size=1)
        for _ in rows.map_batches(_Blocks, batch_size=1, compute=one).iter_batches(batch_size=1):
            pass

    costs = [Cost("the driver, CLIP ViT-L/14", cpu_seconds(pool) / items / BLOCK)]
    try:
        import ray.data
    except ImportError:
        print("Ray Data is not installed: no comparison", file=sys.stderr)
    else:
        costs.append(Cost("the same with Ray Data", cpu_seconds(data) / items / BLOCK))
    ray.shutdown()
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/scale-ray.md"))
    parser.add_argument("--items", type=int, default=100, help="blocks in a round")
    args = parser.parse_args()
    text = f"On {machine(1)}.\n\n{table(of_ray(args.items))}\n"
    write_text(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
