"""How ComfyUI's prompt weights, "(cigarette:1.3)", act on an eraser: a table for docs/comfyui.md.

python benchmarks/prompt_weights.py --out build/weights
python benchmarks/document.py docs/comfyui.md weights build/weights/weights.md
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.progress import track

from snce.demo.laboratory import Laboratory
from snce.demo.measure import found, judged, share
from snce.demo.prompts import TestPrompt, test_set
from snce.demo.table import chosen_concepts, interval
from snce.emblem.load import GUIDANCE, STEPS
from snce.integrations.conditioning import edit_conditioning, read_conditioning
from snce.storage import write_text

if TYPE_CHECKING:
    from torch import Tensor

    from snce.erase.eraser import ConceptEraser

WEIGHTS = (0.5, 0.75, 1.0, 1.3, 1.6)
STRENGTHS = (1.0, 1.5)
PROMPTS = 8
"""Of each concept: such as name it by its first name, so that its tokens can be found."""


def spans(lab: Laboratory, prompts: list[TestPrompt], concept: str) -> list[slice]:
    """The positions of the concept's name in each prompt."""
    name = lab.tower.tokenizer(concept, add_special_tokens=False).input_ids
    found = []
    for prompt in prompts:
        tokens = lab.tower.tokenize([prompt.text]).ids[0].tolist()
        start = next(i for i in range(len(tokens)) if tokens[i : i + len(name)] == name)
        found.append(slice(start, start + len(name)))
    return found


def weighted(x: Tensor, empty: Tensor, places: list[slice], weight: float) -> Tensor:
    """Embeddings [n, positions, d] with a weight on each prompt's `places`, by ComfyUI's rule."""
    x = x.clone()
    for row, at in zip(x, places, strict=True):
        row[at] = (row[at] - empty[at]) * weight + empty[at]
    return x


@torch.no_grad()
def drawn(lab: Laboratory, x: Tensor, prompts: list[TestPrompt]) -> Tensor:
    """Pictures of embeddings, uint8 [n, 3, 64, 64]."""
    _, negative = lab.pipe.encode_prompt("", lab.pipe.device, len(x), True)
    generators = [torch.Generator().manual_seed(p.seed) for p in prompts]
    with torch.autocast(lab.pipe.device.type, torch.bfloat16):
        result = lab.pipe(prompt_embeds=x, negative_prompt_embeds=negative, num_inference_steps=STEPS,
                          guidance_scale=GUIDANCE, generator=generators, output_type="pt")  # fmt: skip
    return (result.images.float() * 255).round().clamp(0, 255).to(torch.uint8)


def measure(lab: Laboratory, concept: str, eraser: ConceptEraser) -> dict[tuple[float, str], float]:
    """Shares by weight and measure."""
    named = [p for p in test_set(concept, direct=80).direct if f" {concept}" in f" {p.text}"][:PROMPTS]
    places, empty = spans(lab, named, concept), lab.tower.encode([""])[0]
    x = lab.tower.encode([p.text for p in named])
    rows = {}
    for weight in WEIGHTS:
        heavy = weighted(x, empty, places, weight)
        fires = [read_conditioning([[row[None], {}]], eraser, chunk=0)[0].fires for row in heavy]
        shown = found(judged(lab.judge, drawn(lab, heavy, named)), named, concept)
        rows[weight, "shown before"] = share(shown)
        rows[weight, "fires"] = sum(fires) / len(fires)
        for strength in STRENGTHS:
            [[edited, _]] = edit_conditioning([[heavy, {}]], eraser, strength, chunk=0)
            still = found(judged(lab.judge, drawn(lab, edited, named)), named, concept)
            rows[weight, f"erased, strength {strength:g}"] = share(~still, shown)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    lab = Laboratory()
    trained = lab.train(checkpoint=out / "training.pt")
    concepts = chosen_concepts("harmful")
    results = [measure(lab, name, lab.eraser(trained.sae, name)) for name in track(concepts)]
    columns = ["shown before", "fires", *(f"erased, strength {s:g}" for s in STRENGTHS)]
    lines = [f"| weight | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    cells = {key: interval([row[key] for row in results if row[key] == row[key]]) for key in product(WEIGHTS, columns)}
    lines += [f"| {w:g} | {' | '.join(cells[w, c] for c in columns)} |" for w in WEIGHTS]
    write_text(out / "weights.md", "\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
