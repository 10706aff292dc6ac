"""What a prompt code loses as a jumprelu of SAELens: FVU and active latents before and after, on captions of Emblem.

python benchmarks/saelens_export.py runs/emblem
"""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory

import torch

from snce.emblem.corpus import captions_for_training
from snce.emblem.load import load
from snce.sae.formats import load_sae
from snce.sae.metrics import measure
from snce.sae.saelens import load_saelens, save_saelens
from snce.text.harvest import harvest
from snce.text.towers import TextTower

CAPTIONS, SEED = 2000, 1


def main(folder: str) -> None:
    sae, origin = load_sae(folder)
    tower = TextTower.from_pipeline(load())
    origin.check(tower)
    data = harvest(tower, captions_for_training(CAPTIONS, SEED))
    with TemporaryDirectory() as out:
        save_saelens(sae, out, origin)
        exported, _ = load_saelens(out, tower, data)
    print("| SAE | FVU | active latents |")
    print("|---|---|---|")
    everything = torch.arange(len(data))
    for name, one in ((f"{sae.config.support} code", sae), ("its jumprelu in SAELens", exported)):
        metrics = measure(one, data, everything, everything)
        print(f"| {name} | {metrics.fvu:.3f} | {metrics.l0:.1f} per {one.config.support} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
