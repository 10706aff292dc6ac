"""What it costs to find the neurons of 1 and of 200 concepts among 12,288 latents: time beside the bare product with
the SAE's encoder, and memory beside the formula. For docs/speed.md.

python -m benchmarks.find --out build/find --threads 1              a share of the prompts, in a few minutes
python -m benchmarks.find --out build/find --threads 1 --whole      all of them, for all concepts at once
python benchmarks/document.py docs/speed.md find build/find/find.md

Embeddings of 30,000 prompts (77 positions of width 768, float16) are written to a memory-mapped file, a block at a
time: noise, and in the target prompts of each concept the encoder row of its latent, so that the neuron to be found is
known. Every prompt that is no target of a concept is a neutral one. The SAE is random, of a prompt code with k = 32.

Times are CPU seconds of one process. On a share of the prompts, the product, the search for 1 concept and the ways of
the peers (benchmarks/find_peers.py) take turns; then all concepts are searched for at once, on all prompts with
--whole, between two runs of the product on the share. The product is x @ W_enc.T in float32, which the search computes
in, on embeddings that are converted as it converts them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from benchmarks.machine import PeakMemory, in_turns, machine, ratio

from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings

POSITIONS, WIDTH, LATENTS, K = 77, 768, 12_288, 32
TARGETS = 50
"""Prompts of each concept."""
LOUD = 8.0
"""How far the encoder row of a concept's latent is added; the noise along it has a standard deviation of 1."""


WAYS = {
    "search": "1 concept",
    "position": "1 concept, of a position code",
    "saeuron": "1 concept, as SAeUron: means of a position code in full",
    "itd": "1 concept, as ItD: the 128 highest of each prompt",
}
"""Of finding what is known."""


def make_sae(support: Literal["prompt", "position"] = "prompt") -> SparseAutoencoder:
    """The same weights for both kinds of code."""
    import torch

    from snce.sae.config import SAEConfig
    from snce.sae.model import SparseAutoencoder

    torch.manual_seed(0)
    return SparseAutoencoder(SAEConfig(WIDTH, LATENTS, K, support)).eval().requires_grad_(False)


def make_embeddings(folder: Path, prompts: int, concepts: int) -> None:
    """Written block by block; latent c is that of concept c, and prompts c * TARGETS and following are its targets."""
    import torch

    from snce.text.positions import BEGIN, END, PADDING, WORD

    rng, rows = torch.Generator().manual_seed(1), make_sae().W_enc
    words = torch.randint(4, 20, (prompts, 1), generator=rng)
    place = torch.arange(POSITIONS).expand(prompts, -1)
    kinds = torch.full((prompts, POSITIONS), PADDING, dtype=torch.uint8)
    kinds[place <= words], kinds[place == words + 1], kinds[place == 0] = WORD, END, BEGIN
    store = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float16, (prompts, POSITIONS, WIDTH))
    for i in range(0, prompts, 256):
        x = torch.randn(min(256, prompts - i), POSITIONS, WIDTH, generator=rng)
        for j in range(i, min(i + len(x), concepts * TARGETS)):
            x[j - i, 4:] += LOUD * rows[j // TARGETS]
        store[i : i + len(x)] = x.half().numpy()
    store.flush()
    np.save(folder / "kinds.npy", kinds.numpy())


def read_embeddings(folder: Path, prompts: int) -> Embeddings:
    import torch

    from snce.text.harvest import Embeddings

    x = torch.from_numpy(np.load(folder / "x.npy", mmap_mode="c"))
    return Embeddings(x[:prompts], torch.from_numpy(np.load(folder / "kinds.npy"))[:prompts])


def concepts_among(prompts: int, concepts: int) -> dict[str, tuple[Any, Any]]:
    """Target and neutral prompts of concepts whose targets are all among the first `prompts`."""
    numbers = np.arange(prompts)
    fit = min(concepts, prompts // TARGETS - 1)
    return {
        str(c): (range(c * TARGETS, (c + 1) * TARGETS), np.delete(numbers, slice(c * TARGETS, (c + 1) * TARGETS)))
        for c in range(fit)
    }


def product(sae: SparseAutoencoder, data: Embeddings, dtype: Any) -> None:
    """x @ W_enc.T of all prompts, in blocks of the size that is best for it here."""
    import torch

    size = 16
    weights = sae.W_enc.to(dtype).T
    x = torch.empty(size * POSITIONS, WIDTH, dtype=dtype)
    out = torch.empty(size * POSITIONS, LATENTS, dtype=dtype)
    for i in range(0, len(data), size):
        block = data.x[i : i + size].flatten(0, 1)
        torch.mm(x[: len(block)].copy_(block), weights, out=out[: len(block)])


def ways_to_find(folder: Path, share: int) -> dict[str, Callable[[], Any]]:
    """Each of `WAYS`, of finding concept 0 among the first `share` prompts."""
    from benchmarks.find_peers import itd_features, saeuron_scores

    from snce.neurons.find import find_many

    sae, by_position, data = make_sae(), make_sae("position"), read_embeddings(folder, share)
    one = concepts_among(share, 1)
    return {
        "search": lambda: find_many(sae, data, one)["0"],
        "position": lambda: find_many(by_position, data, one)["0"],
        "saeuron": lambda: saeuron_scores(by_position, data, *one["0"]),
        "itd": lambda: itd_features(by_position, data, *one["0"]),
    }


def place_of_known(way: str, found: Any) -> str:
    """Where latent 0, which is concept 0's, is in what a way of `WAYS` found."""
    if way == "itd":
        return f"{'one' if found[0] else 'none'} of {int(found.sum())}"
    ranked = found.argsort(descending=True).tolist() if way == "saeuron" else [card.neuron for card in found]
    return f"place {ranked.index(0) + 1}" if 0 in ranked else f"not in the first {len(ranked)}"


def measure_time(folder: Path, share: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of product and searches, in turns, on the first `share` prompts."""
    import torch

    sae, data = make_sae(), read_embeddings(folder, share)
    work = {
        "product": lambda: product(sae, data, torch.float32),
        **ways_to_find(folder, share),
        "bfloat16": lambda: product(sae, data, torch.bfloat16),
    }
    return {"prompts": share, "rounds": rounds, "cpu_seconds": in_turns(work, rounds)}


def measure_way(folder: Path, share: int, way: str) -> dict[str, Any]:
    """Peak memory of one way of finding concept 0, and where it has the latent that is known."""
    find = ways_to_find(folder, share)[way]
    with PeakMemory() as memory:
        found = find()
    return {"peak_bytes": memory.above, "known": place_of_known(way, found)}


def measure_product(folder: Path, share: int) -> float:
    """CPU seconds of the product alone, on the first `share` prompts."""
    import torch

    sae, data = make_sae(), read_embeddings(folder, share)
    return in_turns({"product": lambda: product(sae, data, torch.float32)}, 1)["product"][0]


def measure_memory(folder: Path, prompts: int, concepts: int) -> dict[str, Any]:
    """Peak memory of one search for all concepts, and whether it found what is known."""
    from snce.neurons.find import find_bytes, find_many

    sae, data, many = make_sae(), read_embeddings(folder, prompts), concepts_among(prompts, concepts)
    find_many(sae, read_embeddings(folder, 16), {"0": ([0], [1])})  # what the libraries set up at their first use
    cpu = time.process_time()
    with PeakMemory() as memory:
        found = find_many(sae, data, many)
    return {
        "prompts": prompts,
        "concepts": len(many),
        "found": sum(cards[0].neuron == int(name) for name, cards in found.items()),
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": memory.above,
        "process_bytes": memory.peak,
        "formula_bytes": find_bytes(sae.config, prompts, POSITIONS),
        "file_bytes": data.x.numel() * data.x.element_size(),
    }


def rows(result: dict[str, Any]) -> Iterator[str]:
    timed, memory, around, ways = result["time"], result["memory"], result["around"], result["ways"]
    seconds, n = timed["cpu_seconds"], timed["prompts"]
    bare = median(seconds["product"]) / n
    each, cpu = memory["cpu_seconds"] / memory["prompts"], memory["cpu_seconds"]
    yield "| what | CPU ms per prompt | speed, of the bare product's | the latent that is known | peak memory |"
    yield "|---|---|---|---|---|"
    yield f"| bare product, float32 | {1000 * bare:.2f} | 1 | | |"
    for way, told in WAYS.items():
        spent, speed = 1000 * median(seconds[way]) / n, ratio(seconds["product"], seconds[way])
        yield f"| {told} | {spent:.2f} | {speed} | {ways[way]['known']} | {ways[way]['peak_bytes'] / 1e6:.0f} MB |"
    speed = ratio([spent / n for spent in around], [each] * len(around))
    yield f"| {memory['concepts']} concepts at once | {1000 * each:.2f} | {speed} | below | below |"
    yield f"| bare product, bfloat16, for comparison | {1000 * median(seconds['bfloat16']) / n:.2f} | | | |"
    yield ""
    columns = ("prompts", "embeddings on disk", "concepts", "right neuron first", "CPU s", "peak memory of the process")
    yield f"| {' | '.join(columns)} | of tensors, by the formula |"
    yield "|---|---|---|---|---|---|---|"
    yield (
        f"| {memory['prompts']:,} | {memory['file_bytes'] / 1e9:.2f} GB | {memory['concepts']} | "
        f"{memory['found']} of {memory['concepts']} | {cpu:,.0f} | {memory['peak_bytes'] / 1e6:.0f} MB | "
        f"{memory['formula_bytes'] / 1e6:.0f} MB |"
    )
    yield ""
    runs = " and ".join(f"{1000 * spent / n:.2f}" for spent in around)
    yield (
        f"Products and 1 concept: {n:,} prompts, medians of {timed['rounds']} turns, with the "
        f"{'95 % interval' if timed['rounds'] > 5 else 'lowest and the highest'}. "
        f"All concepts at once: {memory['prompts']:,} of {result['prompts']:,} prompts, once, against runs of the "
        f"product before and after ({runs} CPU ms). Memory: above the {WIDTH} x {LATENTS:,} SAE and the memory-mapped "
        f"file; with the SAE and the libraries the process held {memory['process_bytes'] / 1e6:.0f} MB of its own. "
        f"{result['machine']}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables, and for the embeddings")
    parser.add_argument("--prompts", type=int, default=30_000)
    parser.add_argument("--concepts", type=int, default=200)
    parser.add_argument(
        "--share", type=int, default=512, help="prompts that take turns; without --whole, all there are"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="search all prompts for all concepts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the embeddings where they are")
    args = parser.parse_args()
    from benchmarks.full_size import in_process

    args.out.mkdir(parents=True, exist_ok=True)
    folder, threads = args.out / "embeddings", args.threads
    folder.mkdir(exist_ok=True)
    searched = args.prompts if args.whole else min(args.prompts, args.share)
    share = min(args.share, searched)
    try:
        in_process(threads, make_embeddings, folder, searched, args.concepts)
        timed, _ = in_process(threads, measure_time, folder, share, args.rounds)
        ways = {way: in_process(threads, measure_way, folder, share, way)[0] for way in WAYS}
        before, _ = in_process(threads, measure_product, folder, share)
        memory, _ = in_process(threads, measure_memory, folder, searched, args.concepts)
        after, _ = in_process(threads, measure_product, folder, share)
    finally:
        if not args.keep:
            shutil.rmtree(folder)
    result = {"prompts": args.prompts, "time": timed, "ways": ways, "memory": memory, "around": [before, after]}
    result["machine"] = machine(threads)
    write_text(args.out / "find.json", json.dumps(result, indent=1) + "\n")
    text = "\n".join(rows(result)) + "\n"
    write_text(args.out / "find.md", text)
    print(text)


if __name__ == "__main__":
    main()
