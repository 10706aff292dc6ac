"""Does one neuron suffice? SAE variants on the validation concepts, judged by pictures.

    python benchmarks/one_neuron.py --out build/one-neuron

Trains each SAE of `SAES` once, makes an eraser of one neuron for every validation concept at every strength, draws and
judges. Writes DIR/results.json as it goes (a second run goes on where the first stopped) and DIR/table.md, the table of
docs/one-neuron.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.progress import Progress

from snce.demo.judging import judge_eraser
from snce.demo.laboratory import TRAINING, Laboratory
from snce.demo.prompts import test_set
from snce.demo.table import DRAWN_WELL, MEASURES, SIZES, interval, validation_concepts
from snce.sae.model import SAEConfig
from snce.storage import write_text

WIDTH = 256
SAES = {
    "position code, k 32 (the paper's)": SAEConfig.plain(WIDTH, latents=2048, k=32),
    "position code, k 8": SAEConfig.plain(WIDTH, latents=1024, k=8),
    "prompt code, k 4": SAEConfig(WIDTH, latents=1024, k=4),
    "prompt code, k 4, 640 latents": SAEConfig(WIDTH, latents=640, k=4),
    "prompt code, k 8": SAEConfig(WIDTH, latents=1024, k=8),
    "prompt code, k 12": SAEConfig(WIDTH, latents=1024, k=12),
    "prompt code, k 8, 2048 latents": SAEConfig(WIDTH, latents=2048, k=8),
    "prompt code, k 8, 512 latents": SAEConfig(WIDTH, latents=512, k=8),
    "prompt code, BatchTopK 8": SAEConfig(WIDTH, latents=1024, k=8, activation="batchtopk"),
}
STRENGTHS = (0.0, 1.0, 1.5, 2.0, 3.0)
"""0 stands for the neutralising strength of each concept."""
RULES = ("modulated",)


@dataclass(frozen=True)
class Trial:
    """One eraser on one concept."""

    sae: str
    strength: float
    rule: str
    concept: str

    @property
    def key(self) -> str:
        return f"{self.sae} | {self.strength} | {self.rule} | {self.concept}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/one-neuron"))
    parser.add_argument("--saes", nargs="*", default=list(SAES), choices=list(SAES), metavar="NAME")
    parser.add_argument("--strengths", nargs="*", type=float, default=list(STRENGTHS))
    parser.add_argument("--rules", nargs="*", default=list(RULES))
    parser.add_argument("--concepts", type=int, default=24, help="how many of the validation concepts")
    parser.add_argument("--steps", type=int, default=TRAINING.steps, help="training steps of every SAE")
    args = parser.parse_args()
    lab = Laboratory()
    path = args.out / "results.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    stamp = [lab.fingerprint, args.steps]
    rows: dict[str, dict] = stored["rows"] if stored.get("stamp") == stamp else {}
    concepts = validation_concepts()[: args.concepts]
    with Progress() as bar:
        task = bar.add_task("erasers", total=len(args.saes) * len(args.strengths) * len(args.rules) * len(concepts))
        for name in args.saes:
            trained = None
            for concept in concepts:
                for rule in args.rules:
                    for strength in args.strengths:
                        trial = Trial(name, strength, rule, concept)
                        bar.advance(task)
                        if trial.key in rows:
                            continue
                        if trained is None:
                            file = args.out / f"{list(SAES).index(name)}.safetensors"
                            trained = lab.train(SAES[name], replace(TRAINING, steps=args.steps), file)
                        eraser = lab.eraser(trained.sae, concept, strength or None, rule)
                        seen = judge_eraser(lab, test_set(concept, **SIZES), eraser, args.out / "pictures")
                        rows[trial.key] = {**asdict(trial), **trained.metrics._asdict(), **asdict(seen)}
                        write_text(path, json.dumps({"stamp": stamp, "rows": rows}, indent=1) + "\n")
    text = table(list(rows.values()))
    write_text(args.out / "table.md", text)
    print(text)


def table(rows: list[dict]) -> str:
    """Markdown: one row per variant, means over the validation concepts that Emblem draws well."""
    lines = [
        "| SAE | strength | rule | erased | retention | identical | pair: target gone | pair: partner kept | FVU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    variants = dict.fromkeys((r["sae"], r["strength"], r["rule"]) for r in rows)
    for sae, strength, rule in variants:
        chosen = [
            r
            for r in rows
            if (r["sae"], r["strength"], r["rule"]) == (sae, strength, rule) and r["base_rate"] >= DRAWN_WELL
        ]
        if not chosen:
            continue
        cells = " | ".join(interval([r[m] for r in chosen if r[m] == r[m]]) for m in MEASURES)
        lines.append(f"| {sae} | {strength or 'neutralising'} | {rule} | {cells} | {chosen[0]['fvu']:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
