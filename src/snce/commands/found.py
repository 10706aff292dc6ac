"""What `snce find` prints of the neurons that it found."""

from typing import TYPE_CHECKING

from snce.commands.console import stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from snce.commands.search import Found
    from snce.erase.eraser import ConceptEraser
    from snce.neurons.calibrate import OperatingPoint
    from snce.neurons.find import NeuronCard

POOR_RECALL = 0.9
MANY_FALSE_FIRES = 0.05


def show_neurons(cards: "list[NeuronCard]", eraser: "ConceptEraser", concept: str) -> None:
    """Print the ranked neurons, the operating points of the chosen ones, and a warning where they are poor."""
    from rich.markup import escape
    from rich.table import Table

    points = operating_points(eraser, concept)
    table = Table(title=escape(f"neurons of {concept!r} in {eraser.place}, by {cards[0].rule}"))
    pairs = ("fires on\ntarget", "fires on\nneutral", "activation\non target", "activation\non neutral")
    for heading in ("", "neuron", "score", *pairs, "AUROC"):
        table.add_column(heading, justify="right")
    for card in cards:
        table.add_row(
            "->" if card.neuron in points else "",
            str(card.neuron),
            f"{card.score:.3f}",
            f"{card.frequency_target:.1%}",
            f"{card.frequency_neutral:.1%}",
            f"{card.activation_target:.3f}",
            f"{card.activation_neutral:.3f}",
            f"{card.auroc:.3f}",
        )
    stdout().print(table)
    for neuron, point in points.items():
        stdout().print(
            f"neuron {neuron}, on prompts that did not choose it: fires on {point.recall:.1%} of the target prompts "
            f"and {point.false_fires:.1%} of the neutral ones, at threshold {point.threshold:.3f}",
            soft_wrap=True,
        )
    for warning in warnings_of(cards, eraser, concept):
        warn(warning)


def show_concepts(found: "Mapping[str, Mapping[str, Found]]", files: "Mapping[str, Path]") -> None:
    """Print a row for each concept, or for each of its towers, and the warnings by concept.

    Args:
        found: by concept, and by the place of the tower.
        files: the erasers.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title="neurons that are switched off, with their figures on prompts that did not choose them")
    for heading in ("concept", "tower", "neurons", "score", "fires on\ntarget", "fires on\nneutral", "eraser"):
        table.add_column(heading, justify="left" if heading in ("concept", "tower", "eraser") else "right")
    for concept, towers in found.items():
        for place, it in towers.items():
            points = operating_points(it.eraser, concept)
            table.add_row(
                Text(concept),
                Text(place),
                "\n".join(map(str, points)),
                "\n".join(f"{card.score:.3f}" for card in it.cards if card.neuron in points),
                "\n".join(f"{point.recall:.1%}" for point in points.values()),
                "\n".join(f"{point.false_fires:.1%}" for point in points.values()),
                Text(files[concept].name),
            )
    stdout().print(table)
    for concept, towers in found.items():
        for it in towers.values():
            for warning in warnings_of(it.cards, it.eraser, concept):
                warn(f"{concept}: {warning}")


def operating_points(eraser: "ConceptEraser", concept: str) -> "dict[int, OperatingPoint]":
    """By neuron, from the card."""
    from snce.neurons.calibrate import OperatingPoint

    entries = eraser.card[concept]["neurons"]
    return {e["neuron"]: OperatingPoint(*(e[name] for name in OperatingPoint._fields)) for e in entries}


def warnings_of(cards: "list[NeuronCard]", eraser: "ConceptEraser", concept: str) -> list[str]:
    """Why the eraser is likely to disappoint, if it is."""
    from snce.neurons.find import CARRIES

    points, warnings = operating_points(eraser, concept), []
    partial = [card for card in cards if card.neuron in points and card.frequency_target < CARRIES]
    if len(partial) == len(points):
        warnings.append(
            f"the SAE uses {'this neuron' if len(points) == 1 else 'each of these neurons'} in "
            f"{max(card.frequency_target for card in partial):.0%} of the target prompts at most, so that others carry "
            "a part of the concept and it may stay, above all beside other things; try an SAE with more training "
            "steps, latents or prompts"
        )
    caught = max(point.recall for point in points.values())
    wrong = max(point.false_fires for point in points.values())
    if caught < POOR_RECALL or wrong > MANY_FALSE_FIRES:
        warnings.append(
            f"at best {caught:.0%} of the target prompts are caught, and up to {wrong:.0%} of the neutral ones change; "
            "try another --rule, or an SAE with more training steps, latents or prompts"
        )
    return warnings


def warn(text: str) -> None:
    """One line, in yellow."""
    stderr().print(f"warning: {text}", style="yellow", soft_wrap=True, markup=False)
