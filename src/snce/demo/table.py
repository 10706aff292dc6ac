"""The table of many concepts: one neuron each, one row each, resumable."""

from __future__ import annotations

import json
from collections import Counter
from math import isnan
from random import Random
from typing import TYPE_CHECKING

from snce.demo.workers import Trial, judge_trials
from snce.emblem.concepts import concept_names
from snce.emblem.vocabulary import vocabulary
from snce.errors import SnceError
from snce.neurons.find import CARRIES
from snce.storage import parse_json, read_text, write_text
from snce.text.fingerprint import weights_fingerprint

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from rich.console import Console

    from snce.demo.config import DemoConfig
    from snce.demo.laboratory import Laboratory
    from snce.sae.train import TrainResult

MEASURES = ("erased", "retention", "identical", "pair_target_gone", "pair_partner_kept")
_FIGURES = ("neuron", "score", "base_rate", "frequency_target", *MEASURES)
DRAWN_WELL = 0.75
"""A concept counts if the judge finds it on this share of the pictures before: else there is little to erase."""

SIZES = {"direct": 10, "pairs": 8, "retain": 16}
"""Test prompts per concept: few, as there are hundreds of concepts."""


def validation_concepts(n: int = 24) -> list[str]:
    """Concepts on which settings are chosen: drawn at random once and for all, two styles among them."""
    rng = Random("validation")
    return [*rng.sample(list(vocabulary().objects), n - 2), *rng.sample(list(vocabulary().styles), 2)]


def chosen_concepts(text: str) -> list[str]:
    """Names from "all" or "harmful" (but the validation concepts), or from "a, b, c"."""
    if text.strip() in ("all", "harmful"):
        kept_back = set(validation_concepts())
        names = concept_names() if text.strip() == "all" else _harmful()
        return [name for name in names if name not in kept_back]
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def make_table(
    lab: Laboratory, trained: TrainResult, names: list[str], config: DemoConfig, console: Console
) -> list[dict]:
    """Judge one eraser per concept; write summary.md and concepts.md. A stopped run goes on from concepts.json."""
    from rich.progress import Progress

    path = config.out / "concepts.json"
    weights = [lab.fingerprint, lab.judge_fingerprint, weights_fingerprint(trained.sae)]
    stamp = [*weights, trained.sae.describe(), config.strength, config.rule, SIZES]
    rows = {row["concept"]: row for row in stored_rows(path, stamp)}
    pending = [name for name in names if name not in rows]
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("concepts", total=len(names), completed=len(names) - len(pending))
        trials = [Trial(name, config.strength, rule=config.rule) for name in pending]
        for trial, row in judge_trials(lab, trained.sae, trials, config.out / "pictures", config.workers, SIZES):
            rows[trial.concept] = row
            write_text(path, json.dumps({"stamp": stamp, "rows": list(rows.values())}, indent=1) + "\n")
            bar.advance(task)
    results = [rows[name] for name in names]
    text = summary_table(results)
    write_text(config.out / "summary.md", text + "\n")
    write_text(config.out / "concepts.md", row_table(results))
    console.print(text, markup=False, soft_wrap=True)
    return results


def stored_rows(path: Path, stamp: list) -> list[dict]:
    """Rows that an earlier run wrote with the same settings; none where there was no such run.

    Raises:
        SnceError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        stored = parse_json(read_text(path))
        rows = stored["rows"] if stored["stamp"] == stamp else []
        for row in rows:
            if not isinstance(row["concept"], str):
                raise TypeError("a concept is a text")
            [isnan(row[name]) for name in _FIGURES]
        return rows
    except (ValueError, ArithmeticError, TypeError, KeyError) as error:
        raise SnceError(f"{path} is damaged, or not a table of snce: delete it, or choose another folder") from error


def summary_table(rows: list[dict]) -> str:
    """Markdown: means over the concepts that Emblem draws well, with 95 % bootstrap intervals over concepts; then how
    many are left out, and how many have no neuron of their own."""
    kinds: dict[str, Container[str]] = {
        "objects": vocabulary().objects,
        "of these, harmful stand-ins": _harmful(),
        "styles": vocabulary().styles,
    }
    carried = {r["concept"] for r in rows if r["frequency_target"] >= CARRIES}
    kinds[f"all whose neuron fires in {CARRIES:.0%} of their prompts"] = carried
    kinds["all others"] = {r["concept"] for r in rows} - carried
    lines = [
        "| concepts | n | erased | retention | identical | pair: target gone | pair: partner kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, members in kinds.items():
        chosen = [r for r in rows if r["concept"] in members and r["base_rate"] >= DRAWN_WELL]
        if not chosen:
            continue
        lines.append(f"| {label} | {len(chosen)} | {mean_cells(chosen)} |")
    left_out = sum(r["base_rate"] < DRAWN_WELL for r in rows)
    lines.append(
        f"\n{left_out} of {len(rows)} concepts are left out: "
        f"Emblem shows them on fewer than {DRAWN_WELL:.0%} of the pictures."
    )
    concepts_of = Counter(r["neuron"] for r in rows)
    sharing = sum(concepts_of[r["neuron"]] > 1 for r in rows)
    lines.append(f"{sharing} of {len(rows)} concepts share their neuron with another of them.")
    return "\n".join(lines)


def mean_cells(rows: list[dict]) -> str:
    """The cells of MEASURES over `rows`; a figure that rests on no picture, NaN, is left out of its mean."""
    return " | ".join(interval([r[m] for r in rows if r[m] == r[m]]) for m in MEASURES)


def row_table(rows: list[dict]) -> str:
    """Markdown: one row per concept, the worst erased first."""
    lines = [
        "| concept | neuron | score | base rate | erased | retention | identical | target gone | partner kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: (r["erased"] != r["erased"], r["erased"], r["concept"])):  # NaN last
        shares = " | ".join(_percent(r[m]) for m in ("base_rate", *MEASURES))
        lines.append(f"| {r['concept']} | {r['neuron']} | {r['score']:.2f} | {shares} |")
    return "\n".join(lines) + "\n"


def interval(values: list[float], samples: int = 2000) -> str:
    """Mean with a 95 % bootstrap interval, as percents."""
    if not values:
        return "-"
    rng = Random(0)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(samples))
    low, high = means[int(0.025 * samples)], means[int(0.975 * samples)]
    return f"{100 * sum(values) / len(values):.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.0f} %"


def _harmful() -> list[str]:
    return [name for name, item in vocabulary().objects.items() if item.harmful]
