"""The options of `snce bench`. Nothing heavy is imported here: `--help` must be quick."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path  # noqa: TC003 - tyro reads the annotations

from snce.bench.suites.config import SuiteConfig
from snce.engines.spread import check_engine
from snce.errors import SnceError

_OF_ALL = {"suite", "out", "methods", "concepts", "shard", "workers", "engine"}


@dataclass(frozen=True)
class BenchConfig(SuiteConfig):
    """Compare concept-erasure methods: same prompts, same seeds, same judge.

    On Emblem, the model in this package (--suite emblem): tunes each method's main setting on validation concepts, then
    judges it on others. Is the concept gone for direct prompts, synonyms, new sentences; is all else still there; how
    many pictures did not change by one byte; what does it cost. All of it takes hours on two cores; --methods,
    --concepts and --sets ask for less. On a Stable Diffusion 1.x or 2.x that you have (the other suites): the prompts
    and judges of the field. Writes DIR/results.parquet (a row per picture), summary.json, table.md, plots and
    report.html; on other models the pictures, too. An interrupted run goes on from what is there.
    """

    methods: str = "all"
    """"all" (that can be made from what is given), names with commas between them, or "ablations": SNCE with one thing
    at a time changed (suite emblem)."""
    concepts: str = "default"
    """What is erased. Suite emblem: "default" (harmful stand-ins, other objects, styles), "validation" (those that
    choose settings), or bundled concepts with commas between them. Other suites: concept files FILE.yaml, classes of
    the suite, or bundled concepts; left out, what --eraser erases."""
    sets: str = "default"
    """How many concepts are erased together, with commas between the numbers: 1 for each of --concepts alone; of every
    larger number two sets of Emblem's objects, drawn at random, are erased as well. "default" is 1,5,10,25 where
    --concepts is left out, and 1 where it is not, or with --look-alikes (suite emblem)."""
    look_alikes: bool = False
    """Judge by what looks like the erased objects: direct prompts, neighbours by looks in place of those by name, and
    pairs with one of these as partner. 32 prompts for each object; styles are left out. DIR/look-alikes.md tells what
    looks like what (suite emblem)."""
    tune: bool = True
    """Every method's main setting is tuned first, for one concept and for several together. --no-tune leaves each
    method at its default (suite emblem)."""
    join: Path | None = None
    """summary.json of another run: methods that it has and this one has not go into the tables and plots (suite
    emblem). So a new method is compared with others in the time that it takes alone; docs/benchmark of the repository
    has a summary.json. How far SNCE is ahead of the new method is told only if "SNCE" is among --methods, too."""
    tuned: Path | None = None
    """tuned.json of an earlier run: what it tried is not tried again, and goes into this run's (suite emblem)."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense, or has none for the suite."""
        of_suites = {f.name for f in fields(SuiteConfig)} - _OF_ALL
        of_emblem = {f.name for f in fields(self)} - of_suites - _OF_ALL
        foreign = of_suites if self.suite == "emblem" else of_emblem
        given = [f.name for f in fields(self) if f.name in foreign and getattr(self, f.name) != f.default]
        if given:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise SnceError(f"{options} cannot be used with --suite {self.suite}")
        if self.suite == "emblem":
            check_engine(self.engine, self.workers)
            if self.tuned is not None and not self.tune:
                raise SnceError("--tuned has no effect with --no-tune, which tunes nothing: leave out one of them")
        else:
            super().check()
