"""`snce demo`: one concept, start to finish, in a few minutes on a laptop."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snce.erase import DEFAULT_STRENGTH

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class DemoConfig:
    """Erase a concept from Emblem, the embedded model, and show what changed and what did not.

    Trains a sparse autoencoder on the text encoder's embeddings, finds the one neuron of the concept, switches it off,
    draws the same prompts with the same seeds before and after, and lets the judge say what it sees.
    Writes DIR/grid.png, DIR/report.json and DIR/CONCEPT.safetensors (the eraser).
    """

    concept: str = "cigarette"
    """An object or a style that Emblem draws."""
    out: Path = Path("demo")
    """Folder for the picture, the report and the eraser."""
    strength: float = DEFAULT_STRENGTH
    """How far the neuron is pushed: 1 removes its contribution, more goes past zero."""
    rule: str = "modulated"
    """Rule that chooses the neuron."""
    prompts: int = 10_000
    """Captions that the sparse autoencoder is trained on."""
    seed: int = 0
    """Seed of the training."""


def run_demo(config: DemoConfig, console: Console) -> dict:
    """Run the demo; returns what it writes to report.json."""
    from rich.progress import Progress

    from snce.demo.grid import before_after, save_png
    from snce.demo.laboratory import Laboratory
    from snce.demo.measure import outcome
    from snce.demo.prompts import test_set
    from snce.emblem.concepts import load_concept
    from snce.sae.model import SAEConfig
    from snce.sae.train import TrainConfig
    from snce.storage import write_text

    load_concept(config.concept)  # a mistyped name fails here, before any work
    config.out.mkdir(parents=True, exist_ok=True)
    lab = Laboratory(SAEConfig(256), TrainConfig(seed=config.seed), config.prompts, config.out)
    metrics = lab.trained.metrics
    eraser = lab.eraser(config.concept, config.strength, config.rule)
    card = eraser.card[config.concept]["neurons"][0]
    console.print(f"neuron {card['neuron']} of {lab.config.latents}, score {card['score']:.3f}")
    path = config.out / f"{config.concept.replace(' ', '-')}.safetensors"
    eraser.save(path)

    tests = test_set(config.concept)
    total = 2 * sum(len(p) for p in (tests.direct, tests.pairs, tests.retain))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("pictures", total=total)
        before = lab.draw(tests, lambda n: bar.advance(task, n))
        with eraser.attach(lab.pipe):
            after = lab.draw(tests, lambda n: bar.advance(task, n))
    with lab.clock.stage("judge"):
        seen = outcome(tests, before, after, lab.judge)
    shown = 8
    sections = [
        (heading, [p.text for p in prompts[:shown]], b[:shown], a[:shown])
        for heading, prompts, b, a in (
            ("the concept", tests.direct, before.direct, after.direct),
            ("in company", tests.pairs, before.pairs, after.pairs),
            ("everything else", tests.retain, before.retain, after.retain),
        )
        if len(prompts)
    ]
    title = f"{config.concept}: one neuron switched off"
    subtitle = "same prompts, same seeds; green frame: the same bytes, red frame: changed"
    save_png(before_after(sections, title, subtitle), config.out / "grid.png")
    report = {
        "concept": config.concept,
        "neuron": card["neuron"],
        "score": card["score"],
        "strength": config.strength,
        "threshold": card["threshold"],
        **asdict(seen),
        "sae_fvu": metrics.fvu,
        "sae_l0": metrics.l0,
        "sae_dead": metrics.dead,
        "eraser_bytes": path.stat().st_size,
        "seconds": lab.clock.seconds,
        "settings": {"sae": asdict(lab.config), "train": asdict(lab.train_config), "prompts": config.prompts},
    }
    write_text(config.out / "report.json", json.dumps(report, indent=2) + "\n")
    return report
