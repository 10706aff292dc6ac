"""Does one neuron suffice? SAE variants on the validation concepts, judged by pictures.

    python benchmarks/one_neuron.py --out build/one-neuron --workers 2

Trains each SAE of `SAES` once, makes an eraser of one neuron for every validation concept at every strength, draws and
judges. Writes DIR/results.json as it goes (a second run goes on where the first stopped) and DIR/table.md, the table of
docs/one-neuron.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from rich.progress import Progress

from snce.demo.laboratory import SAE, TRAINING, Laboratory
from snce.demo.table import DRAWN_WELL, mean_cells, stored_rows, validation_concepts
from snce.demo.workers import SIZES, Trial, judge_trials
from snce.neurons.scores import RULES
from snce.sae.model import SAEConfig
from snce.storage import write_text

WIDTH = 256
SAES = {
    "position code, k 32 of 2048 (the paper's kind)": SAEConfig.plain(WIDTH, latents=2048, k=32),
    "position code, k 8 of 1024": SAEConfig.plain(WIDTH, latents=1024, k=8),
    "position code, k 4 of 640": SAEConfig.plain(WIDTH, latents=640, k=4),
    "prompt code, k 32 of 2048": SAEConfig(WIDTH, latents=2048, k=32),
    "prompt code, k 8 of 1024": SAEConfig(WIDTH, latents=1024, k=8),
    "prompt code, k 4 of 640 (the default)": SAE,
}
STRENGTHS = {
    "1": (1.0, 1.0),
    "neutralising": (None, 1.0),
    "1.25 x neutralising": (None, 1.25),
    "1.5 x neutralising": (None, 1.5),
    "2": (2.0, 1.0),
}
"""Name: (strength, None for the neutralising one of each concept; factor on that)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/one-neuron"))
    parser.add_argument("--saes", nargs="*", type=int, default=range(len(SAES)), help="numbers of SAES, from 0")
    parser.add_argument("--strengths", nargs="*", choices=list(STRENGTHS), default=["1", "1.5 x neutralising", "2"])
    parser.add_argument("--rules", nargs="*", choices=list(RULES), default=["modulated"])
    parser.add_argument("--concepts", type=int, default=24, help="how many of the validation concepts")
    parser.add_argument("--steps", type=int, default=TRAINING.steps, help="training steps of every SAE")
    parser.add_argument("--workers", type=int, default=1, help="processes; one per core is best")
    args = parser.parse_args()
    lab = Laboratory()
    path = args.out / "results.json"
    stamp = [lab.fingerprint, lab.judge_fingerprint, args.steps, SIZES]
    rows = {row["key"]: row for row in stored_rows(path, stamp)}
    trials = [
        Trial(concept, *STRENGTHS[strength], rule=rule)
        for rule in args.rules
        for strength in args.strengths
        for concept in validation_concepts()[: args.concepts]
    ]
    with Progress() as bar:
        task = bar.add_task("erasers", total=len(args.saes) * len(trials))
        for number in args.saes:
            name, config = list(SAES.items())[number]
            keys = {trial: f"{config} {trial}" for trial in trials}
            pending = [trial for trial in trials if keys[trial] not in rows]
            bar.advance(task, len(trials) - len(pending))
            if not pending:
                continue
            trained = lab.train(config, replace(TRAINING, steps=args.steps), args.out / f"{number}.safetensors")
            for trial, row in judge_trials(lab, trained.sae, pending, args.out / "pictures", args.workers):
                key = keys[trial]
                rows[key] = {"key": key, **row, **asdict(trial), **trained.metrics._asdict(), "sae": name}
                write_text(path, json.dumps({"stamp": stamp, "rows": list(rows.values())}, indent=1) + "\n")
                bar.advance(task)
    text = table(list(rows.values()))
    write_text(args.out / "table.md", text)
    print(text)


def table(rows: list[dict]) -> str:
    """Markdown: one row per variant, means over the validation concepts that Emblem draws well."""
    lines = [
        "| SAE | strength | rule | n | erased | retention | identical | pair: target gone | pair: partner kept | FVU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for sae in SAES:
        for label, (strength, overshoot) in STRENGTHS.items():
            for rule in RULES:
                variant = {"sae": sae, "strength": strength, "overshoot": overshoot, "rule": rule}
                chosen = [r for r in rows if variant.items() <= r.items() and r["base_rate"] >= DRAWN_WELL]
                if chosen:
                    cells = f"{len(chosen)} | {mean_cells(chosen)} | {chosen[0]['fvu']:.3f}"
                    lines.append(f"| {sae} | {label} | {rule} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
