"""What a million prompts or pictures cost, and a hundred million: measured per item, then multiplied.

    python -m benchmarks.scale --out build/scale.md
    python benchmarks/document.py docs/scale.md scale build/scale.md

CPU seconds of one thread, of the fastest of several rounds: other work on the machine does not count. Memory is what
this process holds more than before. The full-size text encoder is that of CLIP ViT-L/14 (as in Stable Diffusion 1.x)
with random weights; trained ones take the same time.
With the extra `ray` (and, for the comparison, `ray[data]`) also what the driver of a Ray cluster spends per item.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from benchmarks.machine import PeakMemory, machine

from snce.storage import write_text
from snce.text.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 256
"""Prompts per block of the cache, as `harvest` has it."""
CLIP = (77, 768)
"""Positions and width of CLIP ViT-L/14."""
SIZES = (1_000_000, 100_000_000)


class Cost(NamedTuple):
    what: str
    each: float
    """Per item."""
    unit: str
    """s or B."""


def cpu_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Of the fastest round, after one that does not count."""
    spent = []
    for _ in range(rounds + 1):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent[1:])


def of_prompts() -> list[Cost]:
    """Text to tokens to embeddings."""
    from transformers import CLIPTextConfig, CLIPTextModel

    from snce.emblem.corpus import captions_for_training
    from snce.emblem.load import load
    from snce.text.blocks import TokenBlocks
    from snce.text.towers import TextTower

    tower, prompts = TextTower.from_pipeline(load()), captions_for_training(2 * BLOCK, 0)
    blocks = TokenBlocks(tower, prompts)
    tokens = blocks[slice(0, BLOCK)]
    encoder = CLIPTextModel(
        CLIPTextConfig(hidden_size=CLIP[1], intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    ).eval()
    ids = torch.randint(1000, 40_000, (16, CLIP[0]), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        clip = cpu_seconds(lambda: encoder(ids)) / len(ids)
    return [
        Cost("tokenising, twice", 2 * cpu_seconds(lambda: TokenBlocks(tower, prompts)) / len(prompts), "s"),
        Cost("encoding, Emblem", cpu_seconds(lambda: tower.encode_tokens(tokens)) / BLOCK, "s"),
        Cost("encoding, CLIP ViT-L/14", clip, "s"),
        Cost("disk, Emblem", 2.0 * blocks.kinds.shape[1] * tower.width, "B"),
        Cost("disk, CLIP ViT-L/14", 2.0 * CLIP[0] * CLIP[1], "B"),
    ]


class ClipTokens:
    """Stands in for the tower of CLIP ViT-L/14 where its tokens are counted and not read."""

    tokenizer = None

    def tokenize(self, prompts: list[str], warn: bool = True) -> Tokens:
        shape = (len(prompts), CLIP[0])
        return Tokens(torch.zeros(shape, dtype=torch.int32), torch.ones(shape, dtype=torch.bool))

    def kinds(self, tokens: Tokens) -> torch.Tensor:
        return tokens.mask.byte()


def of_memory(prompts: int = 1_000_000) -> list[Cost]:
    """What the driver of `snce harvest` holds of prompts that it reads from a file: Emblem's captions, numbered."""
    from snce.commands.corpus import training_prompts
    from snce.commands.harvest import HarvestOptions
    from snce.emblem.corpus import captions_for_training
    from snce.text.blocks import TokenBlocks

    captions = captions_for_training(BLOCK, 0)
    TokenBlocks(ClipTokens(), captions)  # what the libraries set up at their first use
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "captions.txt"
        with path.open("w") as file:  # as long as they were, and no two the same
            file.writelines(f"{captions[i % BLOCK][:-7]}{i:07d}\n" for i in range(prompts))
        options = HarvestOptions("a model", Path(folder), prompts=str(path))
        with PeakMemory() as memory:
            blocks = TokenBlocks(ClipTokens(), training_prompts(options))
    assert blocks.kinds.shape == (prompts, CLIP[0])
    return [Cost("memory of the driver at its peak: captions, a byte per position (77)", memory.above / prompts, "B")]


def of_store() -> list[Cost]:
    """Writing embeddings of CLIP ViT-L/14 with checksums, and checking them."""
    from snce.text.store import EmbeddingStore

    x = np.random.default_rng(0).normal(size=(BLOCK, *CLIP)).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(Path(folder), x.shape, BLOCK)
        with store:
            write = cpu_seconds(lambda: store.put(0, x))
            store.finish()
        check = cpu_seconds(lambda: list(store.sound()))
    return [
        Cost("writing with checksums, CLIP ViT-L/14", write / BLOCK, "s"),
        Cost("checking (--verify), CLIP ViT-L/14", check / BLOCK, "s"),
    ]


def of_pictures() -> list[Cost]:
    from snce.commands.drawing import draw
    from snce.commands.generate_options import GenerateOptions
    from snce.emblem.load import load

    pipe, options = load(), GenerateOptions("emblem", Path("x.png"))
    return [Cost("a picture of Emblem, `snce generate`", cpu_seconds(lambda: draw(pipe, "a red apple", options)), "s")]


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

    costs = [Cost("Ray: the driver, CLIP ViT-L/14", cpu_seconds(pool, 2) / items / BLOCK, "s")]
    try:
        import ray.data
    except ImportError:
        print("Ray Data is not installed: no comparison", file=sys.stderr)
    else:
        costs.append(Cost("the same with Ray Data", cpu_seconds(data, 2) / items / BLOCK, "s"))
    ray.shutdown()
    return costs


def amount(value: float, unit: str) -> str:
    """With the unit that suits it."""
    scales = {
        "s": ((86400 * 365, "years"), (86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")),
        "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1, "B")),
    }[unit]
    scale, name = next(((s, n) for s, n in scales if value >= s), scales[-1])
    return f"{value / scale:.3g} {name}"


def table(costs: list[Cost]) -> str:
    lines = [
        f"On {machine(1)}.",
        "The first column is measured, that of disk counted (2 bytes a number); the others are it multiplied.",
        "",
        "| | per prompt or picture | 1 M | 100 M |",
        "|---|---:|---:|---:|",
    ]
    for cost in costs:
        cells = (amount(cost.each * n, cost.unit) for n in (1, *SIZES))
        lines.append(f"| {cost.what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/scale.md"))
    parser.add_argument("--ray-items", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    memory = of_memory()  # first: what other work has let go of would be taken again, and not counted
    costs = of_prompts() + memory + of_store() + of_pictures()
    try:
        costs += of_ray(args.ray_items)
    except ImportError:
        print("Ray is not installed: its figures are left out", file=sys.stderr)
    write_text(args.out, table(costs))
    print(table(costs))


if __name__ == "__main__":
    main()
