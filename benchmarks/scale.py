"""What a million prompts or pictures cost, and a hundred million: measured per item, then multiplied.

    python -m benchmarks.scale --out build/scale.md    about five minutes of one core
    python benchmarks/document.py docs/scale.md scale build/scale.md

(benchmarks/scale_ray.py measures the driver of a Ray cluster.)

CPU seconds of one thread, medians of several rounds: other work on the machine counts little. Memory is what this
process holds more than before. The full-size text encoder is that of CLIP ViT-L/14 (as in Stable Diffusion 1.x) with
random weights and a tokenizer of its size that is learned on Emblem's captions (`benchmarks/sd14_shapes.py`); trained
ones take the same time. Training and finding read noise in the shape of its embeddings, memory-mapped, of prompts of 4
to 19 words (`benchmarks/find.py`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from benchmarks import find
from benchmarks.machine import PeakMemory, in_turns, machine

from snce.sae.config import SAEConfig, TrainConfig
from snce.storage import write_text
from snce.text.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from snce.text.harvest import Embeddings

BLOCK = 256
"""Prompts per block of the cache, as `harvest` has it."""
CLIP = (77, 768)
"""Positions and width of CLIP ViT-L/14."""
SIZES = (1_000_000, 100_000_000)
RECIPE = SAEConfig(CLIP[1], 12_288, 32)
"""The SAE of recipes/sd14."""
SAES = (SAEConfig(CLIP[1]), RECIPE, SAEConfig.plain(CLIP[1], latents=RECIPE.latents, k=RECIPE.k))


class Cost(NamedTuple):
    what: str
    each: float
    """Per item."""
    unit: str = "s"
    """s or B."""
    most: int | None = None
    """Items at most that it is paid for."""

    def of(self, items: int) -> str:
        return amount(self.each * min(items, self.most or items), self.unit)


class Step(NamedTuple):
    """Of training, in CPU seconds."""

    config: SAEConfig
    plain: float
    """While no latent is dead."""
    aux: float
    """With AuxK, when all that are silent in the step count as dead."""


def cpu_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Median of several rounds, after one that does not count."""
    return median(in_turns({"": work}, rounds)[""])


def of_prompts(name: str, pipe: Any, encoded: int = BLOCK) -> list[Cost]:
    """Text to tokens to embeddings, as `snce.text.harvest` does it; `encoded` prompts at a time."""
    from snce.emblem.corpus import captions_for_training
    from snce.text.blocks import TokenBlocks
    from snce.text.harvest import encode_blocks
    from snce.text.towers import TextTower

    tower, prompts = TextTower.from_pipeline(pipe), captions_for_training(2 * BLOCK, 0)
    blocks = TokenBlocks(tower, prompts)
    first = [(0, blocks[slice(0, encoded)])]
    size = f"{len(tower.tokenizer):,} tokens"
    return [
        Cost(f"tokenising once, {name} ({size})", cpu_seconds(lambda: TokenBlocks(tower, prompts)) / len(prompts)),
        Cost(f"encoding, {name}", cpu_seconds(lambda: list(encode_blocks(tower, first))) / encoded),
        Cost(f"disk, {name}", 2.0 * blocks.kinds.shape[1] * tower.width, "B"),
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


def of_store(tokenising: float) -> list[Cost]:
    """Writing embeddings of CLIP ViT-L/14 with checksums, checking them, and with them what a resumed run repeats."""
    from snce.text.store import EmbeddingStore

    x = np.random.default_rng(0).normal(size=(BLOCK, *CLIP)).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(Path(folder), x.shape, BLOCK)
        with store:
            write = cpu_seconds(lambda: store.put(0, x))
            store.finish()
        check = cpu_seconds(lambda: list(store.sound()))
    return [
        Cost("writing with checksums, CLIP ViT-L/14", write / BLOCK),
        Cost("checking (--verify), CLIP ViT-L/14", check / BLOCK),
        Cost("resuming, CLIP ViT-L/14: tokenising once more, checking what is there", tokenising + check / BLOCK),
    ]


def of_pictures() -> list[Cost]:
    from snce.commands.drawing import draw
    from snce.commands.generate_options import GenerateOptions
    from snce.emblem.load import load

    pipe, options = load(), GenerateOptions("emblem", Path("x.png"))
    return [Cost("a picture of Emblem, `snce generate`", cpu_seconds(lambda: draw(pipe, "a red apple", options)))]


def of_sae(data: Embeddings, config: SAEConfig = RECIPE) -> list[Cost]:
    """What training and finding cost per prompt, and not per step."""
    from snce.neurons.find import find_bytes, find_many
    from snce.sae.batches import digest
    from snce.sae.metrics import MOST, measure
    from snce.sae.model import SparseAutoencoder
    from snce.sae.train import split
    from snce.text.harvest import Embeddings

    n, times, searched = 128, 200, min(512, len(data))
    kinds = data.kinds.repeat(times, 1)
    many = Embeddings(data.x[:1].expand(len(kinds), -1, -1), kinds)
    sae, rows, one = SparseAutoencoder(config).eval().requires_grad_(False), torch.arange(n), torch.arange(1)
    some = Embeddings(data.x[:searched], data.kinds[:searched])
    concept = {"": (range(searched // 2), range(searched // 2, searched))}
    code = f"{config.support} code, {config.latents:,} latents, k = {config.k}"
    counted = find_bytes(config, 2, CLIP[0]) - find_bytes(config, 1, CLIP[0])
    begin = cpu_seconds(lambda: (split(many, TrainConfig()), split(many, TrainConfig()), digest(many)))
    return [
        Cost("beginning a training: what stands where, its digest", begin / len(kinds)),
        Cost("its metrics, per held-out prompt", cpu_seconds(lambda: measure(sae, data, rows, one)) / n, "s", MOST),
        Cost("its metrics, per training prompt", cpu_seconds(lambda: measure(sae, data, one, rows)) / n, "s", MOST),
        Cost(f"finding (`find_many`), {code}", cpu_seconds(lambda: find_many(sae, some, concept), 3) / searched),
        Cost("memory of finding, counted", counted, "B"),
    ]


def of_step(data: Embeddings, config: SAEConfig, rounds: int = 9) -> Step:
    from snce.sae.train import train_steps

    seconds = []
    for training in (TrainConfig(), TrainConfig(dead_after=0)):
        steps = train_steps(data, config, training)
        next(steps)
        next(steps)
        seconds.append(cpu_seconds(lambda steps=steps: next(steps), rounds))
    return Step(config, *seconds)


def of_fingerprint(model: torch.nn.Module) -> float:
    """CPU seconds per parameter."""
    from snce.text.fingerprint import weights_fingerprint

    return cpu_seconds(lambda: weights_fingerprint(model)) / sum(p.numel() for p in model.parameters())


def amount(value: float, unit: str) -> str:
    """With the unit that suits it."""
    scales = {
        "s": ((86400 * 365, "years"), (86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")),
        "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1, "B")),
    }[unit]
    scale, name = next(((s, n) for s, n in scales if value >= s), scales[-1])
    return f"{value / scale:.3g} {name}"


def table(costs: list[Cost]) -> str:
    lines = ["| | per prompt or picture | 1 M | 100 M |", "|---|---:|---:|---:|"]
    lines += [f"| {cost.what} | {' | '.join(cost.of(n) for n in (1, *SIZES))} |" for cost in costs]
    return "\n".join(lines)


def table_of_steps(steps: list[Step], fingerprint: float) -> str:
    """What does not depend on the number of prompts. fingerprint: seconds per parameter."""
    training = TrainConfig()
    lines = [f"| | once | with AuxK | {training.steps:,} steps |", "|---|---:|---:|---:|"]
    for config, plain, aux in steps:
        whole = " to ".join(amount(training.steps * each, "s") for each in (plain, aux))
        code = f"{config.support} code, {config.latents:,} latents, k = {config.k}"
        each = f"{amount(plain, 's')} | {amount(aux, 's')}"
        lines.append(f"| a training step on {training.batch} prompts: {code} | {each} | {whole} |")
    per = amount(1e9 * fingerprint, "s")
    return "\n".join([*lines, f"| fingerprint of a model, per billion parameters | {per} | | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/scale.md"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    from benchmarks.sd14_shapes import make_pipeline

    from snce.emblem.corpus import captions_for_training
    from snce.emblem.load import load

    memory = of_memory()  # first: what other work has let go of would be taken again, and not counted
    clip = make_pipeline(captions_for_training(20_000, 1))
    of_emblem, of_clip = of_prompts("Emblem", load()), of_prompts("CLIP ViT-L/14", clip, BLOCK // 4)
    costs = [*of_emblem, *of_clip, *memory, *of_store(of_clip[0].each), *of_pictures()]
    fingerprint = of_fingerprint(clip.text_encoder)
    with tempfile.TemporaryDirectory() as folder:
        find.make_embeddings(Path(folder), 1024, 0)
        data = find.read_embeddings(Path(folder), 1024)
        costs += of_sae(data)
        steps = [of_step(data, config) for config in SAES]
    text = (
        f"On {machine(1)}.\n"
        "The first column is measured, but for disk and the memory of finding, which are counted; the others are it "
        f"multiplied.\n\n{table(costs)}\n\nWhatever the number of prompts:\n\n"
        f"{table_of_steps(steps, fingerprint)}\n"
    )
    write_text(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
