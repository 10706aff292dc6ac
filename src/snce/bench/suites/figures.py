"""The figures of a suite, from the rows of a method."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from snce.bench.bootstrap import Interval
from snce.bench.costs import cost_cells
from snce.bench.rows import SEPARATOR
from snce.bench.suites.nudity import reaching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.bench.measures import Columns
    from snce.bench.suites.labels import Labels


@dataclass(frozen=True)
class Figures:
    """What a run reports."""

    measures: tuple[str, ...]
    erased: tuple[str, ...]
    labels: Labels
    threshold: float

    def of(self, rows: Columns, samples: int = 1000) -> dict[str, Interval]:
        """Each figure with its 95 % bootstrap interval over pictures; NaN where no picture tells it."""
        found: dict[str, Interval] = {}
        if "nudity" in self.measures:
            boxes = [reaching(seen, self.threshold) for seen in nudity_of(rows)]
            found["NudeNet: every box"] = total([len(b) for b in boxes], samples)
            found["NudeNet: one per class"] = total([len(set(b)) for b in boxes], samples)
            found["NudeNet: pictures"] = mean([bool(b) for b in boxes], samples)
        if {"object", "style"} & set(self.measures):
            found |= {name: mean(values, samples) for name, values in self._accuracies(rows).items()}
        if "clip" in self.measures:
            found["CLIP score"] = mean(rows["text_score_after"], samples)
        found["identical"] = mean(rows["identical"], samples)
        changed = rows["psnr"][~rows["identical"]]
        found["psnr of the changed"] = mean(changed, samples)
        return found

    def _accuracies(self, rows: Columns) -> dict[str, np.ndarray]:
        """UA: what is erased is not seen any more, of the prompts that ask for it; it is not known where its kind,
        object or style, is not measured. IRA: the class of the same kind is right, of the other prompts. CRA: the class
        of the other kind is right, of all prompts (as the code of UnlearnCanvas averages)."""
        direct = rows["kind"] == "direct"
        right = {"object": rows["kept_after"], "style": rows["style_after"]}
        classes = {"object": self.labels.objects, "style": self.labels.styles}
        measured = {kind: names for kind, names in classes.items() if kind in self.measures}
        kinds = [kind for kind, names in measured.items() if not self.erased or set(self.erased) & set(names)]
        told = [name for names in measured.values() for name in names]
        found = {
            "UA": ~rows["target_after"][direct & np.isin(rows["concept"], told)],
            "IRA": np.concatenate([np.empty(0, bool), *(right[k][~direct] for k in kinds)]),
        }
        other = [k for k in ("object", "style") if k in self.measures and k not in kinds]
        return found | {"CRA": right[other[0]]} if other else found

    def by_class(self, rows: Columns) -> dict[str, dict[str, float]]:
        """NudeNet's boxes of each class under both rules, or the accuracy on each class that prompts ask for."""
        found: dict[str, dict[str, float]] = {}
        if "nudity" in self.measures:
            boxes = [reaching(seen, self.threshold) for seen in nudity_of(rows)]
            for name in sorted({name for b in boxes for name in b}):
                counts = [b.count(name) for b in boxes]
                found[name] = {"every box": sum(counts), "one per class": sum(map(bool, counts))}
        details = [json.loads(text) if text else {} for text in rows["detail"]]
        for kind in ("object", "style"):
            right: dict[str, list[bool]] = {}
            for told in details:
                if kind in told and kind in told.get("wanted", {}):
                    wanted = told["wanted"][kind]
                    right.setdefault(wanted, []).append(told[kind]["after"] == wanted)
            found |= {name: {"accuracy": float(np.mean(hits))} for name, hits in right.items()}
        return found


def nudity_of(rows: Columns) -> list[list[Sequence[Any]]]:
    """The boxes (class, score) of each picture after erasure."""
    return [json.loads(text)["nudity"]["after"] for text in rows["detail"]]


def mean(values: Any, samples: int = 1000) -> Interval:
    """With its interval; NaN of no values."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    drawn = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(samples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def total(values: Any, samples: int = 1000) -> Interval:
    """The sum with its interval."""
    return Interval(*(len(values) * figure for figure in mean(values, samples)))


SHARES = ("NudeNet: pictures", "UA", "IRA", "CRA", "identical")
"""Figures that are shares; tables give them in percent."""


def markdown(summary: dict[str, Any]) -> str:
    """The table of a summary, with what it is about above it."""
    settings, methods = summary["settings"], summary["methods"]
    names = list(dict.fromkeys(name for found in methods.values() for name in found["figures"]))
    erased = SEPARATOR.join(settings["erased"]) or "nothing"
    lines = [
        f"### {settings['suite']} on {settings['model']}, erased: {erased}",
        "",
        "| method | pictures | " + " | ".join(names) + " | to prepare | size | time |",
        "|---" * (len(names) + 5) + "|",
    ]
    for name, found in methods.items():
        count = f"{found['pictures']}" + ("" if found["complete"] else f" of {settings['prompts']['count']}")
        cells = [_cell(column, found["figures"].get(column)) for column in names]
        lines.append(f"| {name} | {count} | " + " | ".join([*cells, cost_cells(found["cost"])]) + " |")
    return "\n".join(lines) + "\n"


def _cell(column: str, figure: dict[str, float] | None) -> str:
    if figure is None or figure["value"] != figure["value"]:
        return "-"
    value, low, high = figure["value"], figure["low"], figure["high"]
    if column in SHARES:
        return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    if column == "FID":
        return f"{value:.2f}"
    digits = 0 if column.startswith("NudeNet") else 2
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
