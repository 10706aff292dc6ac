"""Which neurons of an eraser fire on which prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snce.commands.console import stdout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snce.erase.eraser import ConceptEraser


def activations(
    eraser: ConceptEraser, pipe: Any, prompts: Sequence[str], batch: int = 256
) -> Iterator[tuple[ConceptEraser, list[list[float]]]]:
    """For each part of an eraser: the highest activations [prompts][neurons]."""
    from snce.text.towers import TextTower, tower_at

    towers = TextTower.all_of(pipe)
    for part in eraser.parts:
        rows: list[list[float]] = []
        for start in range(0, len(prompts), batch):
            x, mask = tower_at(part.place, towers).read(prompts[start : start + batch])
            rows += part.activations(x, mask=mask).tolist()
        yield part, rows


def fires(eraser: ConceptEraser, row: list[float]) -> list[bool]:
    """Which of the neurons of one part fire, by their activations in a prompt."""
    return [a > max(t, 0) for a, t in zip(row, eraser.neurons.threshold.tolist(), strict=True)]


def fired_concepts(eraser: ConceptEraser, pipe: Any, prompts: Sequence[str]) -> list[str]:
    """For each prompt, the concepts of which a neuron fires, with semicolons between them."""
    fired: list[dict[str, None]] = [{} for _ in prompts]
    for part, rows in activations(eraser, pipe, prompts):
        for concepts, row in zip(fired, rows, strict=True):
            fires_in_row = zip(part.concepts, fires(part, row), strict=True)
            concepts.update((concept, None) for concept, it_fires in fires_in_row if it_fires)
    return ["; ".join(concepts) for concepts in fired]


def show_firing(eraser: ConceptEraser, activations: list[list[float]], prompts: Sequence[str]) -> None:
    """Print which neurons fired on which prompt. activations: [prompts][neurons]."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"which neurons fired in {eraser.place}"))
    table.add_column("prompt", overflow="fold")
    table.add_column("concept")
    table.add_column("activation", justify="right")
    table.add_column("threshold", justify="right")
    table.add_column("fired")
    thresholds = eraser.neurons.threshold.tolist()
    for prompt, row in zip(prompts, activations, strict=True):
        neurons = zip(eraser.concepts, row, thresholds, fires(eraser, row), strict=True)
        for concept, activation, threshold, fired in neurons:
            table.add_row(
                escape(prompt),
                escape(concept),
                f"{activation:.3f}",
                f"{threshold:.3f}",
                "[red]yes: edited[/red]" if fired else "no: untouched",
            )
    stdout().print(table)
