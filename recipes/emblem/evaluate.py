"""Step 8: measure Emblem and its judge, and write the model card with a contact sheet.

    python -m recipes.emblem.evaluate [--pictures N]

Figures come from the weights inside the package, drawn with the default settings.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.demo.grid import contact_sheet, save_png
from snce.demo.pictures import draw
from snce.demo.prompts import TestPrompt
from snce.emblem import captions
from snce.emblem.load import GUIDANCE, STEPS, load, load_judge, weights_folder
from snce.emblem.vocabulary import vocabulary
from snce.storage import write_text

from .card import write_card
from .judge import pair_is_held_out, same_style_pairs
from .render import BACKGROUNDS, PALETTE, Renderer

if TYPE_CHECKING:
    from snce.emblem.judge import Judge, Verdict


@dataclass(frozen=True)
class Figure:
    """A share with its 95 % interval (normal approximation) and the number of pictures it rests on."""

    share: float
    half_width: float
    n: int

    @classmethod
    def of(cls, hits: Tensor) -> Figure:
        p, n = hits.double().mean().item(), len(hits)
        return cls(p, 1.96 * (p * (1 - p) / n) ** 0.5, n)


def judge_figures(judge: Judge) -> dict[str, Figure]:
    """The judge on renderings of kinds it has not seen: new random streams, unseen backgrounds, held-out pairs."""
    r = Renderer()
    rng = torch.Generator().manual_seed(987_654)
    unseen = torch.arange(len(BACKGROUNDS), len(PALETTE))

    def background(n: int) -> Tensor:
        return unseen[torch.randint(len(unseen), (n,), generator=rng)]

    every = torch.arange(len(r))
    free = judge(r.augmented(every, None, background(len(r)), rng))
    layout = judge(r.single(every, background(len(r))))
    left, right = same_style_pairs(r, 8000, rng)
    held = pair_is_held_out(r.object[left], r.object[right])
    left, right = left[held], right[held]
    pairs = judge(r.pair(left, right, background(len(left))))
    return {
        "judge: object top-1, free placement, unseen backgrounds": Figure.of(free.objects.argmax(1) == r.object),
        "judge: style, free placement, unseen backgrounds": Figure.of(free.styles.argmax(1) == r.style),
        "judge: object top-1, Emblem's layout, unseen backgrounds": Figure.of(layout.objects.argmax(1) == r.object),
        "judge: style, Emblem's layout, unseen backgrounds": Figure.of(layout.styles.argmax(1) == r.style),
        "judge: both objects found, held-out pairs": Figure.of(both_found(pairs, r.object[left], r.object[right])),
    }


def both_found(verdict: Verdict, left: Tensor, right: Tensor) -> Tensor:
    """Whether both objects reach probability 0.5, bool [n]."""
    rows = torch.arange(len(left))
    return (verdict.objects[rows, left] >= 0.5) & (verdict.objects[rows, right] >= 0.5)


def single_prompts() -> list[TestPrompt]:
    """One per object and style in which it exists, in random order."""
    words, rng = vocabulary(), Random("evaluate singles")
    prompts = [
        TestPrompt(captions.single(name, rng, style), (name,), style, seed)
        for seed, (name, style) in enumerate((n, s) for n, o in words.objects.items() for s in o.styles)
    ]
    rng.shuffle(prompts)
    return prompts


def pair_prompts(n: int) -> list[TestPrompt]:
    """n different pairs of objects that share a style."""
    words, rng = vocabulary(), Random("evaluate pairs")
    seen: dict[tuple[str, ...], TestPrompt] = {}
    while len(seen) < n:
        left, right = rng.sample(list(words.objects), 2)
        styles = sorted(set(words.objects[left].styles) & set(words.objects[right].styles))
        if styles and (left, right) not in seen:
            style = rng.choice(styles)
            text = captions.pair(left, right, rng, style)
            seen[left, right] = TestPrompt(text, (left, right), style, len(seen))
    return list(seen.values())


def emblem_figures(judge: Judge, singles: int, pairs: int, steps: int) -> tuple[dict[str, Figure], Tensor]:
    """Emblem's own pictures, and 64 of them for the contact sheet."""
    from rich.progress import Progress

    words, pipe = vocabulary(), load()
    names, styles = list(words.objects), list(words.styles)
    chosen, twos = single_prompts()[:singles], pair_prompts(pairs)
    with Progress() as bar:
        task = bar.add_task("pictures", total=len(chosen) + len(twos))
        pictures = draw(pipe, chosen, steps, lambda n: bar.advance(task, n))
        pair_pictures = draw(pipe, twos, steps, lambda n: bar.advance(task, n))
    verdict, pair_verdict = judge(pictures / 255), judge(pair_pictures / 255)
    truth = torch.tensor([names.index(p.objects[0]) for p in chosen])
    style = torch.tensor([styles.index(p.style or "") for p in chosen])
    object_right, style_right = verdict.objects.argmax(1) == truth, verdict.styles.argmax(1) == style
    held_out = torch.tensor([(p.objects[0], p.style) in words.held_out for p in chosen])
    left, right = (torch.tensor([names.index(p.objects[i]) for p in twos]) for i in (0, 1))
    figures = {
        "Emblem: object top-1": Figure.of(object_right[~held_out]),
        "Emblem: style": Figure.of(style_right[~held_out]),
        "Emblem: object found (probability >= 0.5)": Figure.of(verdict.objects[torch.arange(len(truth)), truth] >= 0.5),
        "Emblem: both objects of a pair found": Figure.of(both_found(pair_verdict, left, right)),
        "Emblem: object top-1, combinations held out of training": Figure.of(object_right[held_out]),
        "Emblem: style, combinations held out of training": Figure.of(style_right[held_out]),
    }
    return figures, torch.cat([pictures[:48], pair_pictures[:16]])


def seconds_for_sixteen(steps: int) -> float:
    """As a user draws them: in float32."""
    pipe, texts = load(), [p.text for p in pair_prompts(16)]
    pipe(texts, num_inference_steps=2, guidance_scale=GUIDANCE)
    start = time.perf_counter()
    pipe(texts, num_inference_steps=steps, guidance_scale=GUIDANCE)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000, help="single-object pictures at most (default: all)")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    judge = load_judge()
    figures = judge_figures(judge)
    drawn, sheet = emblem_figures(judge, args.pictures, args.pairs, args.steps)
    figures |= drawn
    seconds = seconds_for_sixteen(args.steps)
    for name, figure in figures.items():
        print(f"{name}: {figure.share:.1%} +- {figure.half_width:.1%} (n = {figure.n})")
    print(
        f"16 pictures in {seconds:.1f} s ({args.steps} steps, guidance {GUIDANCE}, {torch.get_num_threads()} threads)"
    )
    save_png(contact_sheet(sheet, columns=16), weights_folder() / "contact_sheet.png")
    record: dict = {name: asdict(f) for name, f in figures.items()}
    record |= {"seconds for 16 pictures": round(seconds, 2), "threads": torch.get_num_threads()}
    write_text(weights_folder() / "figures.json", json.dumps(record, indent=1) + "\n")
    write_card(record)


if __name__ == "__main__":
    main()
