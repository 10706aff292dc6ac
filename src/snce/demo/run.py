"""`snce demo`: one concept, start to finish, in a few minutes on a laptop."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from snce.demo.config import DemoConfig
    from snce.demo.laboratory import Laboratory
    from snce.demo.measure import Outcome, Pictures
    from snce.demo.prompts import TestSet
    from snce.sae.train import TrainResult

SHOWN = 8
"""Pictures per row of the grid."""


def run_demo(config: DemoConfig, console: Console) -> None:
    """Run the demo on one concept, or make the table of several.

    Raises:
        SnceError: an unknown concept or rule, or a folder that cannot be written.
    """
    from dataclasses import replace

    from snce.demo.laboratory import SAE, TRAINING, Laboratory
    from snce.demo.table import chosen_concepts, make_table

    names = [config.concept] if config.concepts is None else chosen_concepts(config.concepts)
    _check(names, config)
    lab = Laboratory(config.captions)
    trained = lab.train(SAE, replace(TRAINING, seed=config.seed), config.out / "sae-checkpoint.safetensors")
    if config.concepts:
        make_table(lab, trained, names, config, console)
    else:
        _one_concept(lab, trained, config, console)


def _check(names: list[str], config: DemoConfig) -> None:
    """A mistyped name fails here, before any work."""
    from snce.emblem.concepts import load_concept
    from snce.errors import SnceError
    from snce.neurons.scores import RULES

    if not names:
        raise SnceError('no concepts: --concepts takes "all", "harmful", or names with commas between them')
    if config.rule not in RULES:
        raise SnceError(f"unknown rule {config.rule!r}; there are {', '.join(RULES)}")
    if config.workers < 1:
        raise SnceError(f"--workers {config.workers} must be at least 1")
    for name in names:
        load_concept(name)


def _one_concept(lab: Laboratory, trained: TrainResult, config: DemoConfig, console: Console) -> None:
    from snce.demo.grid import save_png
    from snce.demo.measure import outcome
    from snce.demo.prompts import test_set
    from snce.storage import write_text

    eraser = lab.eraser(trained.sae, config.concept, config.strength, config.rule)
    path = config.out / f"{config.concept.replace(' ', '-')}.safetensors"
    eraser.save(path)
    tests = test_set(config.concept)
    before, after = _draw_twice(lab, tests, eraser, console)
    with lab.clock.stage("judge"):
        seen = outcome(tests, before, after, lab.judge)
    save_png(_grid(tests, before, after), config.out / "grid.png")
    card = eraser.card[config.concept]["neurons"][0]
    report = {
        "concept": config.concept,
        "neuron": card["neuron"],
        "score": card["score"],
        "strength": float(eraser.neurons.strength[0]),
        "threshold": card["threshold"],
        # a share of no pictures is NaN, which JSON does not know
        **{name: None if value != value else value for name, value in asdict(seen).items()},
        "sae_fvu": trained.metrics.fvu,
        "sae_l0": trained.metrics.l0,
        "sae_dead": trained.metrics.dead,
        "eraser_bytes": path.stat().st_size,
        "seconds": lab.clock.seconds,
        "settings": {"sae": trained.sae.describe(), "captions": config.captions, "seed": config.seed},
    }
    write_text(config.out / "report.json", json.dumps(report, indent=2) + "\n")
    _show(report, seen, config, console)


def _draw_twice(lab: Laboratory, tests: TestSet, eraser, console: Console) -> tuple[Pictures, Pictures]:
    """All pictures before and after: none is copied, so that `identical` is seen and not inferred."""
    from rich.progress import Progress

    from snce.demo.measure import Pictures
    from snce.demo.pictures import draw

    groups = (tests.direct, tests.pairs, tests.retain)

    def drawn() -> Pictures:
        return Pictures(*(draw(lab.pipe, group, advance=lambda n: bar.advance(task, n)) for group in groups))

    with lab.clock.stage("draw"), Progress(console=console, transient=True) as bar:
        task = bar.add_task("pictures", total=2 * sum(map(len, groups)))
        before = drawn()
        with eraser.attach(lab.pipe):
            after = drawn()
    return before, after


def _grid(tests: TestSet, before: Pictures, after: Pictures):
    from snce.demo.grid import before_after

    rows: list[tuple[str, tuple, Tensor, Tensor]] = [
        ("the concept", tests.direct, before.direct, after.direct),
        ("in company", tests.pairs, before.pairs, after.pairs),
        ("everything else", tests.retain, before.retain, after.retain),
    ]
    sections = [
        (heading, [p.text for p in prompts[:SHOWN]], old[:SHOWN], new[:SHOWN])
        for heading, prompts, old, new in rows
        if len(prompts)
    ]
    return before_after(
        sections,
        f"{tests.concept}: one neuron switched off",
        "same prompts, same seeds; green frame: the same bytes, red frame: changed",
    )


def _show(report: dict, seen: Outcome, config: DemoConfig, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"{config.concept}: neuron {report['neuron']} switched off", title_justify="left")
    table.add_column("what the judge sees")
    table.add_column("share", justify="right")
    for label, value in (
        ("direct prompts: target found before", seen.base_rate),
        ("direct prompts: target found after", seen.erased_rate),
        ("pairs: target gone", seen.pair_target_gone),
        ("pairs: partner kept", seen.pair_partner_kept),
        ("other prompts: still found", seen.retention),
        ("other prompts: same bytes", seen.identical),
    ):
        table.add_row(label, "-" if value != value else f"{value:.0%}")
    console.print(table)
    console.print(
        f"{config.out / 'grid.png'}, {config.out / 'report.json'} and the eraser ({report['eraser_bytes']} bytes) "
        f"written in {sum(report['seconds'].values()):.0f} s",
        markup=False,
        soft_wrap=True,
    )
