"""The record of a run's settings, and its summary."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snce.bench.bootstrap import Interval
from snce.bench.costs import added_in_parts, cost_figures
from snce.bench.lineup import BASE
from snce.bench.rows import join_rows, read_metadata, read_rows
from snce.bench.suites.figures import Figures, markdown
from snce.bench.suites.lineup import ENTRIES
from snce.bench.suites.page import Example, examples, why_hidden, write_suite_report
from snce.errors import SnceError
from snce.storage import parse_json, read_text, strict_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from snce.bench.suites.config import SuiteConfig
    from snce.bench.suites.prompts import PromptSet
    from snce.bench.suites.scores import Inception

LIBRARIES = ("snce", "torch", "diffusers", "transformers")
SETTINGS = "suite.json"
"""The file in the folder of results that records what decides the figures."""


def settings_of(
    config: SuiteConfig,
    prompts: PromptSet,
    erased: Sequence[str],
    sampling: dict[str, Any],
    judges: dict[str, Any],
    weights: dict[str, str],
) -> dict[str, Any]:
    """All that decides the figures, but for the methods. Shards of one run have the same.

    Args:
        weights: fingerprints of the model's parts. Its name does not tell: a folder may hold another model by now.
    """
    # a file may lie elsewhere on another machine: its name, and what is in it
    digest = hashlib.sha256(repr([(p.text, p.seed, p.guidance, p.object, p.style) for p in prompts.prompts]).encode())
    return {
        "suite": config.suite,
        "model": config.model,
        "weights": weights,
        "safety checker": "off",
        "prompts": {
            "source": Path(prompts.source).name if Path(prompts.source).exists() else prompts.source,
            "category": config.category,
            "count": len(prompts.prompts),
            "sha256": digest.hexdigest()[:16],
        },
        "erased": list(erased),
        "sampling": sampling,
        "chunk": config.chunk,
        "judges": judges,
    }


def check_settings(folder: Path, settings: dict[str, Any]) -> str:
    """Write DIR/suite.json, or compare with what is there; returns the settings' hash.

    Raises:
        SnceError: the folder has results of other settings, or a damaged record.
    """
    path = folder / SETTINGS
    text = json.dumps(settings, sort_keys=True)
    if path.exists():
        try:
            there = parse_json(read_text(path))["settings"]
            other = [key for key in settings if there.get(key) != json.loads(text)[key]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SnceError(f"{path} is damaged: choose another --out, or delete the folder") from error
        if other:
            raise SnceError(f"{folder} has results of another run; it differs in {', '.join(other)}: choose another "
                            "--out")  # fmt: skip
    else:
        versions = {name: metadata.version(name) for name in LIBRARIES}
        write_text(path, json.dumps({"settings": settings, "versions": versions}, indent=1) + "\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sum_up(
    folder: Path,
    settings: dict[str, Any],
    digest: str,
    inputs: Mapping[str, str],
    figures: Figures,
    inception: Inception | None,
    reference: Path | None,
) -> str:
    """Write DIR/results.parquet, summary.json, table.md and the report from all parts in the folder; returns the table.

    Args:
        digest: of the settings.
        inputs: hashes of what the methods of this run are made from; of others, all parts must have the same.

    Raises:
        SnceError: a part that is damaged, or of another run.
    """
    files: dict[str, list[Path]] = {}
    known = dict(inputs)
    for path in sorted((folder / "parts").glob("*.parquet")):
        told = read_metadata(path)
        if told.get("settings") != digest or told["inputs"] != known.setdefault(told["method"], told["inputs"]):
            raise SnceError(f"{path} is of another run, with other settings: delete it, or choose another --out")
        files.setdefault(told["method"], []).append(path)
    order = [*ENTRIES, *files]  # not that of the file names
    files = dict(sorted(files.items(), key=lambda item: order.index(item[0])))
    join_rows([path for paths in files.values() for path in paths], folder / "results.parquet")
    real = inception.reference(reference, folder / "reference.safetensors") if inception and reference else None
    methods: dict[str, Any] = {}
    base: dict[str, dict[str, float]] = {}
    shown: dict[str, list[Example]] = {}
    hidden = ""
    for name, paths in files.items():
        rows, metadatas = read_rows(paths)
        found = figures.of(rows)
        costs = {m["start"]: json.loads(m["cost"]) for m in metadatas}
        if name == BASE:
            base = costs
        if inception and (real is not None or name != BASE):
            value = inception.distance(rows["features_before"] if real is None else real, rows["features_after"])
            found["FID"] = Interval(value, float("nan"), float("nan"))
        hidden = hidden or why_hidden(settings, rows)
        shown[name] = examples(rows, _numbers(metadatas, settings))
        methods[name] = {
            "pictures": len(rows["seed"]),
            "complete": len(rows["seed"]) == settings["prompts"]["count"],
            "settings": metadatas[0]["method_settings"],
            "figures": {key: figure._asdict() for key, figure in found.items()},
            "by class": figures.by_class(rows),
            "cost": cost_figures(costs, added_in_parts(costs, base)),
        }
    summary = {"settings": settings, "methods": methods}
    write_text(folder / "summary.json", strict_json(summary) + "\n")
    table = markdown(summary)
    write_text(folder / "table.md", table)
    versions = parse_json(read_text(folder / SETTINGS)).get("versions", {})
    write_suite_report(folder, summary, versions, shown, hidden)
    return table


def _numbers(metadatas: Sequence[dict[str, str]], settings: dict[str, Any]) -> list[int]:
    """The place of each row's prompt among all prompts."""
    starts, count = [int(m["start"]) for m in metadatas], settings["prompts"]["count"]
    return [n for start in starts for n in range(start, min(start + settings["chunk"], count))]
