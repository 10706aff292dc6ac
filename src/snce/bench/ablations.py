"""Ablations: SNCE with one thing at a time changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from snce.bench.lineup import OURS
from snce.bench.methods.neurons import SNCE
from snce.bench.summary import ahead_cell, figure_cells, measured
from snce.demo.laboratory import CAPTIONS, SAE, TRAINING
from snce.erase.build import STRENGTH
from snce.neurons.scores import RULES
from snce.text.positions import END, PADDING, WORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from snce.bench.lineup import Workshop
    from snce.bench.methods.base import Method
    from snce.sae.config import TrainConfig

    Maker = Callable[[Workshop], Method]

_POSITIONS = {
    "words": (WORD,),
    "end": (END,),
    "padding": (PADDING,),
    "words and end": (WORD, END),
    "end and padding": (END, PADDING),
}
_MEASURES = ("harmonic mean", "erased: direct", "erased: synonym", "erased: sentence", "kept: others",
             "kept: neighbours", "pair precision", "identical")  # fmt: skip


def _on(name: str, captions: int = CAPTIONS, training: TrainConfig = TRAINING, **fields: Any) -> Maker:
    """One neuron of an SAE that differs from the default in `fields`, or in how it was trained."""
    config = replace(SAE, **fields)
    return lambda workshop: SNCE(workshop.text_sae(f"ablation {name}".replace(" ", "-"), config, training, captions))


def _with(**fields: Any) -> Maker:
    """The default SAE, and SNCE with other `fields`."""
    return lambda workshop: SNCE(workshop.sae, **fields)


_NESTED = replace(TRAINING, nested=(80, 160, 320))

FACTORS: dict[str, dict[str, Maker]] = {
    "score rule": {rule: _with(rule=rule) for rule in RULES if rule != "modulated"},
    "SAE width": {str(m): _on(f"{m} latents", latents=m) for m in (320, 1280, 2560)},
    "active latents": {str(k): _on(f"k {k}", k=k) for k in (2, 8, 16)},
    "activation": {
        "BatchTopK": _on("batchtopk", activation="batchtopk"),
        "Matryoshka": _on("matryoshka", training=_NESTED),
        "BatchTopK and Matryoshka": _on("both", activation="batchtopk", training=_NESTED),
    },
    "code": {"per position": _on("position code", support="position")},
    "positions edited": {name: _with(positions=kinds) for name, kinds in _POSITIONS.items()},
    "strength": {f"{s:g}": _with(strength=s) for s in (0.75, 1.0, 1.5, 2.0)},
    "direction": {"decoder row": _with(fitted=False)},
    "amount": {"the activation": _with(levelled=False)},
    "training steps": {str(n): _on(f"{n} steps", training=replace(TRAINING, steps=n)) for n in (600, 1_200, 2_400)},
    "learning rate": {f"{r:g}": _on(f"rate {r:g}", training=replace(TRAINING, lr=r)) for r in (1e-3, 6e-3)},
    "training texts": {str(n): _on(f"{n} texts", captions=n) for n in (1_000, 3_000, 30_000)},
    "neurons": {str(n): _with(n=n) for n in (2, 4, 8)},
}
"""What is changed, and to what."""
DEFAULTS = {
    "score rule": "modulated",
    "SAE width": str(SAE.latents),
    "active latents": str(SAE.k),
    "activation": "TopK",
    "code": "per prompt",
    "positions edited": "all",
    "strength": f"{STRENGTH:g}",
    "direction": "fitted",
    "amount": "levelled",
    "training steps": str(TRAINING.steps),
    "learning rate": f"{TRAINING.lr:g}",
    "training texts": str(CAPTIONS),
    "neurons": "1",
}
"""What each factor is where it is not changed."""
ABLATIONS: dict[str, Maker] = {f"{f}: {v}": maker for f, values in FACTORS.items() for v, maker in values.items()}
"""Makers of every variant by its name on the command line."""


def ablation_tables(methods: dict[str, dict[str, Any]]) -> str:
    """Markdown, a small table per factor, from a group of the summary; the default among its values, in bold. Without
    the measures that nothing has."""
    tables = []
    first, *others = measured(methods, _MEASURES)
    for factor, values in FACTORS.items():
        found = {value: methods.get(f"{factor}: {value}") for value in values}
        found[f"**{DEFAULTS[factor]}**"] = methods.get(OURS)
        lines = [f"### {factor[0].upper()}{factor[1:]}", ""]
        head = (factor, first, "default ahead by", *others)
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        rows = {value: figures for value, figures in found.items() if figures}
        if len(rows) > 1:
            ranked = sorted(rows, key=lambda value: -rows[value]["harmonic mean"]["value"])
            for value in ranked:
                figures = rows[value]
                cells = (value, figure_cells(figures, (first,)), ahead_cell(figures), figure_cells(figures, others))
                lines.append(f"| {' | '.join(cells)} |")
            tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"
