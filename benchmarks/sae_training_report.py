"""Table and picture of benchmarks/sae_training.py."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    "snce": "snce", "plain": "plain PyTorch", "sae_lens": "SAELens", "dictionary_learning": "dictionary-learning",
    "sparsify": "eai-sparsify", "overcomplete": "overcomplete",
}  # fmt: skip


def median(turns: list[dict[str, float]], key: str) -> float:
    return statistics.median(turn[key] for turn in turns)


def table(results: dict[str, Any]) -> str:
    return "\n\n".join(part for name, result in results.items() for part in _of_setting(name, result)) + "\n"


def _of_setting(name: str, result: dict[str, Any]) -> list[str]:
    setting, turns, product = result["setting"], result["turns"], result["product"]
    about = (
        f"**{name}**: width {setting['width']}, {setting['latents']:,} latents, k = {setting['k']}, batch "
        f"{setting['batch']:,}, {setting['steps']} steps, {setting['threads']} thread(s). Medians of "
        f"{setting['rounds']} turns."
    )
    truth = "recovered" in turns["snce"][-1]
    head = ["", "tokens/s, CPU", "tokens/s, wall", "CPU s per step", "times the product", "peak MiB", "FVU", "dead"]
    rows = [
        head + (["recovered", "mean max cosine"] if truth else []),
        ["---"] + ["---:"] * (len(head) + 2 * truth - 1),
    ]
    for peer, entries in turns.items():
        cpu, wall, last = median(entries, "cpu"), median(entries, "wall"), entries[-1]
        row = [NAMES[peer], f"{setting['batch'] / cpu:,.0f}", f"{setting['batch'] / wall:,.0f}", f"{cpu:.3f}",
               f"{cpu / product['cpu']:.2f}", f"{last['peak_mib']:,.0f}", f"{last['fvu']:.4f}",
               f"{last['dead']:.1%}"]  # fmt: skip
        rows.append(row + ([f"{last['recovered']:.1%}", f"{last['cosine']:.3f}"] if truth else []))
    others = {peer: median(entries, "cpu") for peer, entries in turns.items() if peer != "snce"}
    fastest = min(others, key=others.__getitem__)
    ours = median(turns["snce"], "cpu")
    ratios = [a["cpu"] / b["cpu"] for a, b in zip(turns[fastest], turns["snce"], strict=True)]
    verdict = (
        f"The encoder's product alone, bfloat16: {product['cpu']:.3f} CPU s. snce's step takes "
        f"{ours / product['cpu']:.2f} times that, and {NAMES[fastest]}, the fastest of the others, "
        f"{others[fastest] / ours:.2f} times as long as snce ({min(ratios):.2f} to {max(ratios):.2f} by turn)."
    )
    return [about, "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows), verdict]


def picture(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(results), 2, figsize=(10, 3.4 * len(results)), squeeze=False)
    for (name, result), (bars, curves) in zip(results.items(), axes, strict=True):
        setting, turns = result["setting"], result["turns"]
        speeds = [setting["batch"] / median(entries, "cpu") for entries in turns.values()]
        colours = [f"C{i}" for i in range(len(turns))]
        bars.barh([NAMES[peer] for peer in turns], speeds, color=colours)
        bars.invert_yaxis()
        bars.set(
            title=f"{name}: width {setting['width']}, {setting['latents']:,} latents", xlabel="tokens per CPU second"
        )
        for colour, (peer, entries) in zip(colours, turns.items(), strict=True):
            x, y = [e["tokens"] for e in entries], [e["fvu"] for e in entries]
            curves.plot([n / 1000 for n in x], y, marker=".", color=colour, label=NAMES[peer])
        curves.set(yscale="log", xlabel="thousand tokens", ylabel="FVU, held out")
        curves.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
