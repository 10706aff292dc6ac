"""`snce inspect`: what is in an eraser, an SAE or a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from snce.commands.console import stdout
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from snce.erase.eraser import ConceptEraser

DESCRIPTION = """\
Show what is in a file: concepts, neurons, thresholds and figures of an eraser; shape, training and metrics of an SAE.

Examples:
  snce inspect cigarette.safetensors
  snce inspect runs/emblem
  snce inspect hf://alice/erasers/cigarette.safetensors"""


@dataclass(frozen=True)
class InspectOptions:
    """Show what is in an eraser or an SAE file."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE.safetensors|DIR|hf://...")]
    """An eraser, an SAE, a training checkpoint, or a folder of `snce train`; on the hub, hf://OWNER/NAME/FILE.safetensors."""


def run_inspect(options: InspectOptions) -> None:
    """Print the table of a file, or of each SAE in a folder.

    Raises:
        SnceError: no such file, a truncated one, or one that is none of ours.
    """
    from snce.checkpoint import KIND
    from snce.commands.hub_files import local_file
    from snce.erase.eraser import ConceptEraser
    from snce.erase.files import FORMAT, FORMAT_OF_TOWERS
    from snce.sae.formats import FORMAT as SAE
    from snce.sae.formats import saes_in
    from snce.storage import read_metadata

    path = local_file(options.file, ConceptEraser.hub_file)
    tables: dict[str | None, Callable[[Path], Table]] = {
        FORMAT: eraser_table,
        FORMAT_OF_TOWERS: eraser_table,
        SAE: sae_table,
        KIND: checkpoint_table,
    }
    for file in saes_in(path) if path.is_dir() else [path]:
        kind = read_metadata(file).get("format")
        if kind not in tables:
            raise SnceError(
                f"{file} is neither an eraser nor an SAE of this library: its metadata says {kind or 'no format'!r}"
            )
        stdout().print(tables[kind](file))


def eraser_table(path: Path) -> "Table":
    """Concepts and neurons of an eraser."""
    from rich.markup import escape

    from snce.erase.eraser import ConceptEraser

    eraser = ConceptEraser.load(path)
    table = _table(f"eraser {path}")
    table.add_row("concepts", escape(", ".join(dict.fromkeys(eraser.concepts))))
    table.add_row("size", f"{path.stat().st_size} bytes, of which {eraser.nbytes} are tensors")
    for part in eraser.parts:
        _add_part(table, part)
    return table


def _add_part(table: "Table", part: "ConceptEraser") -> None:
    from rich.markup import escape

    neurons = part.neurons
    table.add_row("made for", escape(f"{part.place} of {part.pipeline or 'a bare encoder'}"))
    table.add_row("fingerprint", escape(part.fingerprint))
    table.add_row("width", str(part.width))
    for i, concept in enumerate(part.concepts):
        reach = "fires for a whole prompt" if neurons.whole_prompt[i] else "fires at each position by itself"
        text = f"threshold {float(neurons.threshold[i]):.3f}, strength {float(neurons.strength[i]):g}, {reach}"
        table.add_row(f"neuron of {escape(concept)}", text)
    for concept, entry in part.card.items():
        for neuron in filter(None, entry.get("neurons", [])):
            table.add_row(f"card of {escape(concept)}", escape(_figures(neuron)))


def sae_table(path: Path) -> "Table":
    """Shape, training and metrics of an SAE."""
    from rich.markup import escape

    from snce.sae.formats import load_sae

    sae, origin = load_sae(path)
    table = _table(f"sparse autoencoder {path}")
    table.add_row("trained on", escape(f"{origin.tower}.{origin.module} of {origin.pipeline or 'a bare encoder'}"))
    table.add_row("fingerprint", escape(origin.fingerprint))
    table.add_row("size", f"{path.stat().st_size} bytes")
    for heading, values in (("shape", sae.describe()), ("training", origin.training), ("metrics", origin.metrics)):
        for name, value in values.items():
            table.add_row(
                f"{heading}: {escape(name)}", escape(f"{value:.4g}" if isinstance(value, float) else str(value))
            )
    return table


def checkpoint_table(path: Path) -> "Table":
    """How far a training got."""
    from rich.markup import escape

    from snce.storage import read_metadata

    metadata = read_metadata(path)
    table = _table(f"training checkpoint {path}")
    table.add_row("steps done", escape(metadata.get("step", "?")))
    table.add_row("of", escape(metadata.get("purpose", "?")))
    return table


def _table(title: str) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _figures(entry: dict) -> str:
    """One line of a neuron's entry on the card; numbers rounded, whatever else is there as it is."""
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items())
