"""The options of `snce bench`. Nothing heavy is imported here: `--help` must be quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BenchConfig:
    """Compare concept-erasure methods on Emblem: same prompts, same seeds, same judge.

    Tunes each method's main setting on validation concepts, then judges it on others: is the concept gone for direct
    prompts, synonyms, new sentences; is all else still there; how many pictures did not change by one byte; what does
    it cost. Writes DIR/results.parquet (a row per picture), summary.json, table.md, plots and report.html.
    """

    out: Path = Path("bench")
    """Folder for the results. An interrupted run goes on from what is there."""
    methods: str = "all"
    """"all", names with commas between them, or "ablations": SNCE with one thing at a time changed."""
    concepts: str = "default"
    """"default" (harmful stand-ins, other objects, styles), "validation" (those that choose settings), or names with
    commas between them."""
    sets: str = "1,5,10,25"
    """How many concepts are erased together, with commas between the numbers."""
    shard: str = "1/1"
    """This machine's share of the work: 3/8 is the third of eight. Collect the parts in one folder to sum them up."""
    workers: int = 1
    """Processes; one per core is best."""
    tune: bool = True
    """Tune every method's main setting first."""
