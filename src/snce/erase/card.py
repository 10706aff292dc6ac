"""The card of an eraser: a page that says what it erases, how well, how to use it, and what it cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snce.hub.names import HubFile
from snce.neurons.find import CARRIES
from snce.storage import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from snce.erase.eraser import ConceptEraser


def write_card(eraser: ConceptEraser, file: Path) -> None:
    """Write the card of the eraser in `file` beside it, with the ending .md."""
    write_text(file.with_suffix(".md"), render_card(eraser, file.name))


def describe_for_hub(eraser: ConceptEraser, file_name: str, repo_id: str | None) -> tuple[str, dict[str, Any]]:
    """(the card as Markdown, the fields of its header on the hub). See `snce.hub.mixin`."""
    header: dict[str, Any] = {"tags": ["concept-erasure", "sparse-autoencoder"]}
    models = {entry["base_model"]: None for entry in eraser.card.values() if entry.get("base_model")}
    if models:
        header |= {"base_model": list(models), "base_model_relation": "adapter"}
    return render_card(eraser, file_name, repo_id), header


def render_card(eraser: ConceptEraser, file_name: str, repo_id: str | None = None) -> str:
    """The card as Markdown. It says how to use the file here or, with `repo_id`, that of a repository on the hub."""
    concepts = tuple(dict.fromkeys(concept for part in eraser.parts for concept in part.concepts))
    count = sum(len(part.concepts) for part in eraser.parts)
    parts = [
        f"# Eraser: {', '.join(concepts)}",
        f"Switches off {count} neuron{'s' if count > 1 else ''} in the output of "
        f"{' and '.join(f'`{part.place}`' for part in eraser.parts)}, "
        f"with strength {_strengths(eraser)}. A prompt on which no neuron fires keeps its picture, byte for byte.",
        *(_concept(n, part.card[n], part if eraser.others else None) for part in eraser.parts for n in part.card),
        _use(eraser, file_name, repo_id),
        _made_for(eraser),
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


LIMITS = """\
## Limits

- It removes what the neuron stands for from the text embedding. A prompt that leads to the concept without making the
  neuron fire (another language, a new synonym, an adversarial prompt) gets through.
- It guards the text encoder only: whoever holds the weights, or hands over embeddings or images of his own, can go
  around it.
- The figures hold for prompts like those that it was measured on. They count firing neurons, not pictures: look at
  pictures, too, before you rely on it."""


def _concept(name: str, entry: dict[str, Any], part: ConceptEraser | None) -> str:
    where = f" in {part.place}" if part else ""
    rows = [row for row in entry.get("neurons", []) if _is_told(row)]
    if not rows:
        return f"## {name}{where}\n\nThe file does not say how its neuron was found."
    lines = [
        f"## {name}{where}",
        "",
        "| neuron | score | rule | threshold | fires on target prompts | fires on neutral prompts |",
        "|---:|---:|---|---:|---:|---:|",
    ]
    notes = []
    for row in rows:
        lines.append(
            f"| {row['neuron']} | {row['score']:.3f} | {row.get('rule', '?')} | {row['threshold']:.3f} | "
            f"{row['recall']:.1%} | {row['false_fires']:.1%} |"
        )
        if row.get("frequency_target", 1.0) < CARRIES:
            notes.append(
                f"Neuron {row['neuron']} is active in only {row['frequency_target']:.0%} of the "
                "target prompts: others carry a part of the concept, which may show still."
            )
    lines += [
        "",
        f"Measured on {entry.get('target_prompts', '?')} target and {entry.get('neutral_prompts', '?')} neutral "
        "prompts, none of which chose the neuron. They set its threshold.",
        *notes,
    ]
    return "\n".join(lines)


def _is_told(row: dict[str, Any]) -> bool:
    """Whether a neuron's entry has the figures of a row: an eraser can be made without."""
    figures = ("neuron", "score", "threshold", "recall", "false_fires")
    return all(isinstance(row.get(name), int | float) for name in figures)


def _use(eraser: ConceptEraser, file_name: str, repo_id: str | None) -> str:
    if repo_id is None:
        made = f'ConceptEraser.load("{file_name}")'
    else:
        which = "" if file_name == eraser.hub_file else f', filename="{file_name}"'
        made = f'ConceptEraser.from_pretrained("{repo_id}"{which})'
    lines = [
        f"## Use\n\n```python\nfrom snce import ConceptEraser\neraser = {made}",
        f"eraser.attach(pipe)  # a {eraser.pipeline or 'TextTower'}; .detach() takes it off\n```",
    ]
    if repo_id is not None:
        uri = HubFile(repo_id, file_name)
        lines.append(f'\n    snce generate MODEL --eraser {uri} --prompt "..." --out picture.png')
    return "\n".join(lines)


def _made_for(eraser: ConceptEraser) -> str:
    lines = [
        "## Made for",
        "",
        *(
            f"- text encoder with fingerprint `{part.fingerprint}`, width {part.width}, read at `{part.module}`"
            for part in eraser.parts
        ),
    ]
    if eraser.pipeline:
        lines.append(f"- pipeline class `{eraser.pipeline}`; it fits any model with the same text encoder")
    for entry in list(eraser.card.values())[:1]:
        sae, metrics = entry.get("sae"), entry.get("sae_metrics")
        if sae and {"latents", "k", "support"} <= set(sae):
            lines.append(f"- SAE with {sae['latents']} neurons, k = {sae['k']}, {sae['support']} code")
        if metrics:
            lines.append("- its metrics: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    return "\n".join(lines)


def _strengths(eraser: ConceptEraser) -> str:
    found = dict.fromkeys(s for part in eraser.parts for s in part.neurons.strength.tolist())
    return ", ".join(f"{s:g}" for s in found)
