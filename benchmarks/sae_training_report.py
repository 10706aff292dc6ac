"""Table and picture of benchmarks/sae_training.py."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.machine import ratio

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    "snce": "snce", "snce_default": "snce, own rate", "plain": "plain PyTorch", "sae_lens": "SAELens",
    "dictionary_learning": "dictionary-learning", "sparsify": "eai-sparsify",
    "sparsify_signum": "eai-sparsify, signum", "overcomplete": "overcomplete",
}  # fmt: skip


def before_dead(setting: dict[str, Any]) -> int:
    """Turns that begin before a latent can be dead: where others come after them, speeds are those of the others, whose
    steps may all contain AuxK."""
    early = -(-setting["dead_after"] // setting["each"])
    return early if early < setting["rounds"] else 0


def taken(result: dict[str, Any], peer: str, key: str, late: bool = True) -> list[float]:
    """Seconds a step in the turns that count for speed, or in those before; `peer` may be the product."""
    turns, early = result["product"] if peer == "product" else result["turns"][peer], before_dead(result["setting"])
    return [turn[key] for turn in (turns[early:] if late else turns[:early])]


def table(results: dict[str, Any]) -> str:
    """Of the settings measured with one number of threads."""
    return "\n\n".join(part for name, result in results.items() for part in _of_setting(name, result)) + "\n"


def _of_setting(name: str, result: dict[str, Any]) -> list[str]:
    setting, turns, early = result["setting"], result["turns"], before_dead(result["setting"])
    told = f"in which a latent can have been silent for {setting['dead_after']} steps" if early else "all there are"
    about = (
        f"**{name}**: width {setting['width']}, {setting['latents']:,} latents, k = {setting['k']}, batch "
        f"{setting['batch']:,}, {setting['each'] * setting['rounds']} steps in {setting['rounds']} turns. "
        f"Times: medians of the last {setting['rounds'] - early} turns, {told}. FVU and dead latents: after the last "
        f"step, on {setting['held_out']:,} rows."
    )
    truth = "recovered" in turns["snce"][-1]
    head = ["", "tokens/s, CPU", "tokens/s, wall", "CPU s per step"] + ["in earlier turns"] * bool(early)
    head += ["times the product", "peak MiB", "FVU", "dead"] + ["recovered", "mean max cosine"] * truth
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for peer, entries in turns.items():
        cpu, wall, last = median(taken(result, peer, "cpu")), median(taken(result, peer, "wall")), entries[-1]
        row = [NAMES[peer], f"{setting['batch'] / cpu:,.0f}", f"{setting['batch'] / wall:,.0f}", f"{cpu:.3f}"]
        row += [f"{median(taken(result, peer, 'cpu', late=False)):.3f}"] if early else []
        row += [_times(result, peer, "product").split()[0], f"{last['peak_mib']:,.0f}", f"{last['fvu']:.4f}"]
        row += [f"{last['dead']:.1%}"]
        rows.append(row + ([f"{last['recovered']:.1%}", f"{last['cosine']:.3f}"] if truth else []))
    cpu, wall = median(taken(result, "product", "cpu")), median(taken(result, "product", "wall"))
    verdict = f"The encoder's product alone, bfloat16: {cpu:.3f} CPU s, {wall:.3f} s by the clock. "
    verdict += _standing(result, late=True)
    if early:
        verdict += f" In the earlier turns: {_standing(result, late=False)}"
    return [about, "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows), verdict]


def _standing(result: dict[str, Any], late: bool) -> str:
    return (
        f"snce's step takes {_times(result, 'snce', 'product', late=late)} times the product's CPU time, and by the "
        f"clock {_times(result, 'snce', 'product', 'wall', late)} times as long. The fastest of the others is "
        f"{_fastest(result, 'cpu', late)} times snce's CPU time; by the clock it is {_fastest(result, 'wall', late)} "
        f"times snce's."
    )


def _times(result: dict[str, Any], peer: str, other: str, key: str = "cpu", late: bool = True) -> str:
    """How many times as long, in the same turns."""
    return ratio(taken(result, peer, key, late), taken(result, other, key, late))


def _fastest(result: dict[str, Any], key: str, late: bool) -> str:
    others = {peer: median(taken(result, peer, key, late)) for peer in result["turns"] if not peer.startswith("snce")}
    fastest = min(others, key=others.__getitem__)
    return f"{NAMES[fastest]}, with {_times(result, fastest, 'snce', key, late)}"


def picture(results: dict[str, Any], path: Path, threads: int) -> None:
    """Speeds by CPU time, which other work on the machine does not change; of several threads by the clock: one that
    waits for another takes CPU time, too."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    key, unit = ("cpu", "CPU second") if threads == 1 else ("wall", f"second, {threads} threads")
    figure, axes = pyplot.subplots(len(results), 2, figsize=(11, 3.4 * len(results)), squeeze=False)
    for (name, result), (bars, curves) in zip(results.items(), axes, strict=True):
        setting, turns = result["setting"], result["turns"]
        speeds = [setting["batch"] / median(taken(result, peer, key)) / 1000 for peer in turns]
        colours = [f"C{i}" for i in range(len(turns))]
        bars.barh([NAMES[peer] for peer in turns], speeds, color=colours)
        bars.invert_yaxis()
        bars.set(
            title=f"{name}: width {setting['width']}, {setting['latents']:,} latents",
            xlabel=f"thousand tokens per {unit}",
        )
        for colour, (peer, entries) in zip(colours, turns.items(), strict=True):
            x, y = [e["tokens"] for e in entries], [e["fvu"] for e in entries]
            curves.plot([n / 1000 for n in x], y, marker=".", color=colour, label=NAMES[peer])
        curves.set(yscale="log", xlabel="thousand tokens", ylabel="FVU, held out")
        curves.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
