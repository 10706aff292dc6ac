"""What an eraser adds to the text encoder: CPU time per prompt and memory, for 1, 10 and 100 concepts, beside edits
that take the whole SAE. For docs/speed.md.

python -m benchmarks.inference --out build/inference --threads 1
python benchmarks/document.py docs/speed.md inference build/inference/inference.md

Two pipelines: one with a CLIP ViT-L/14 of the size that Stable Diffusion 1.x has, with random weights (time does not
ask what the weights are), and Emblem. One prompt at a time. An eraser has one neuron for each concept; either all of
them fire, or none does, as in most prompts. Figures of each:

- the edit alone, called by itself on the encoder's output, time after time;
- the edit in place, within a call of the pipeline's `encode_prompt`, where its code and its numbers are no longer in
  the caches, and what an eraser that is attached to a pipeline does around `encode_prompt`, in the same call: both
  together are what it costs, and both are compared with the encoder's time in that call;
- whole calls of `encode_prompt`, with each eraser attached and with none, in turns. It is attached before the clock
  runs, as it is once in a pipeline's life, and a call that is not counted goes before those that are. The pipeline
  without an eraser takes two of the turns: what the second adds to the first is the noise of the machine.

Peers, as `snce.bench.methods` has them, on a random SAE: ItD codes and reconstructs every prompt with its whole SAE
before it decides whether to edit it; Concept Steerers add one change, made beforehand, to every prompt there is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.encoder_calls import AGAIN, in_place, whole_calls
from benchmarks.machine import in_turns, interval, machine

from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snce.erase.eraser import ConceptEraser

CONCEPTS = (1, 10, 100)
PROMPT = "a red cigarette and a church, noto style"
EDITS = 20
"""Times in a row that an edit is called in a turn."""


class Size(NamedTuple):
    name: str
    latents: int
    k: int
    calls: int
    """Of the encoder in a row."""


SIZES = {
    "full": Size("CLIP ViT-L/14, random weights", 12_288, 32, 1),
    "emblem": Size("Emblem", 640, 4, 10),
}


def pipeline_of(which: str) -> Any:
    import torch
    from benchmarks.sd14_shapes import make_pipeline

    from snce.emblem.load import load

    torch.manual_seed(0)
    return load() if which == "emblem" else make_pipeline([PROMPT])


def eraser_of(n: int, width: int, fingerprint: str, fires: bool) -> ConceptEraser:
    """A neuron for each of n concepts, of a prompt code, that fires in any prompt or in none."""
    import torch

    from snce.erase.compose import compose
    from snce.erase.edit import Neurons
    from snce.erase.eraser import ConceptEraser

    rng = torch.Generator().manual_seed(n)
    neurons = Neurons(
        encoder=torch.randn(n, width, generator=rng) / width**0.5,
        bias=torch.full((n,), 5.0),
        threshold=torch.full((n,), 0.0 if fires else 1e6),
        decoder=torch.randn(n, width, generator=rng) / width,
        strength=torch.full((n,), 1.25),
        whole_prompt=torch.ones(n, dtype=torch.bool),
        level=torch.full((n,), 4.0),
    )
    return compose([ConceptEraser(neurons, tuple(f"concept {i}" for i in range(n)), fingerprint)])


def measure(which: str, rounds: int) -> dict[str, Any]:
    """CPU seconds by what was timed, and bytes by method."""
    import torch

    from snce.bench.methods.itd import DeactivationErasure
    from snce.bench.methods.steerers import SteeringErasure, steering
    from snce.erase.edit import activations, amounts
    from snce.sae.config import SAEConfig
    from snce.sae.model import SparseAutoencoder
    from snce.text.positions import BEGIN, WORD
    from snce.text.towers import TextTower

    pipe = pipeline_of(which)
    tower = TextTower.from_pipeline(pipe)
    ids = tower.tokenize([PROMPT]).ids
    seen: list[Any] = []
    handle = tower.module.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        tower.encoder(ids)
    handle.remove()
    x, width = seen[0], seen[0].shape[-1]
    kinds = torch.full(ids.shape, WORD, dtype=torch.uint8)
    kinds[:, 0] = BEGIN
    size = SIZES[which]
    sae = SparseAutoencoder(SAEConfig(width, size.latents, size.k)).eval().requires_grad_(False)
    itd = DeactivationErasure(sae, torch.arange(1), -8.0, 0.0)
    steerers = SteeringErasure(-0.5 * steering(sae, x, kinds)[0])
    states = {"fire": True, "silent": False}
    erasers = {
        f"{n} {state}": eraser_of(n, width, tower.fingerprint, fires)
        for n in CONCEPTS
        for state, fires in states.items()
    }
    for name, eraser in erasers.items():
        firing = (amounts(activations(x, eraser.neurons), eraser.neurons) > 0).any(1)
        assert bool(firing.all() if name.endswith("fire") else (~firing).all())

    work: dict[str, Any] = {"encoder": lambda: tower.encoder(ids)}
    for name, eraser in erasers.items():
        work[f"{name} edit"] = lambda eraser=eraser: eraser.edit(x)
    work |= {"itd edit": lambda: itd.edit(x, kinds), "steerers edit": lambda: steerers.edit(x, kinds)}
    with torch.no_grad():
        edits = in_turns(work, rounds, {name: EDITS for name in work if name not in ("encoder", "itd edit")})
        placed = in_place(pipe, tower, PROMPT, erasers, {"itd": itd, "steerers": steerers}, kinds, rounds)
        whole = whole_calls(pipe, PROMPT, erasers, rounds, size.calls)
    nbytes = {name: eraser.nbytes for name, eraser in erasers.items()}
    return {
        "positions": x.shape[1],
        "width": width,
        "latents": size.latents,
        "cpu_seconds": edits,
        "in_place": placed,
        "whole_calls": whole,
        "bytes": nbytes | {"itd": itd.nbytes, "steerers": steerers.nbytes},
    }


def rows(results: dict[str, Any], which: list[str]) -> Iterator[str]:
    columns = ("text encoder", "edit", "memory", "alone, CPU ms", "in place, CPU ms", "around the call, CPU ms")
    yield f"| {' | '.join(columns)} | both, of the encoder | whole calls |"
    yield "|---|---|---|---|---|---|---|---|"
    for key in which:
        it = results[key]
        encoder, calls = median(it["cpu_seconds"]["encoder"]), it["whole_calls"]
        for name, times in calls.items():
            added = percent([b / a - 1 for a, b in zip(calls["none"], times, strict=True)])
            if name == "none":
                yield f"| {SIZES[key].name}, {1000 * encoder:.1f} CPU ms | none | | | | | | |"
            elif name == AGAIN:
                yield f"| | {AGAIN} | | | | | | {added} |"
            else:
                n, state = name.split()
                told = f"{n} concept{'s' if n != '1' else ''}, {'silent' if state == 'silent' else 'all fire'}"
                yield f"| | eraser, {told} | {cells(it, name)} | {added} |"
        yield f"| | ItD, SAE of {it['latents']:,} latents | {cells(it, 'itd')} | |"
        yield f"| | Concept Steerers, change made beforehand | {cells(it, 'steerers')} | |"


def cells(it: dict[str, Any], name: str) -> str:
    alone, placed = median(it["cpu_seconds"][f"{name} edit"]), it["in_place"][name]
    nbytes = it["bytes"][name]
    size = f"{nbytes / 1e6:.1f} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:.1f} KB"
    edit, watching = (1000 * median(getattr(call, part) for call in placed) for part in ("edit", "watching"))
    share = percent([(call.edit + call.watching) / call.encoder for call in placed])
    return f"{size} | {1000 * alone:.3f} | {edit:.3f} | {watching:.3f} | {share}"


def percent(values: list[float]) -> str:
    middle, low, high = interval(values)
    return f"{middle:.2%} ({low:.2%} to {high:.2%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoders", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from benchmarks.full_size import in_process

    results = {which: in_process(args.threads, measure, which, args.rounds)[0] for which in args.encoders}
    args.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(rows(results, args.encoders))
    text += f"\n\nMedians of {args.rounds} turns with their 95 % intervals. {machine(args.threads)}.\n"
    write_text(args.out / "inference.json", json.dumps(results, indent=1) + "\n")
    write_text(args.out / "inference.md", text)
    print(text)


if __name__ == "__main__":
    main()
