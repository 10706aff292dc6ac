"""Running the precision suite: tune the methods on validation concepts, then judge them on others.

Every cell writes a file of its own when it is done, and a cell whose file is there is not run again: so a run can be
interrupted, go on, and be shared among machines (`shard`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snce.bench.ablations import ABLATIONS, ablation_tables
from snce.bench.cells import Bench
from snce.bench.costs import cpu_hours
from snce.bench.execute import is_done, part_of, run_cells, train_shared
from snce.bench.join import check_joinable, join_summaries, read_summary
from snce.bench.near import table
from snce.bench.plan import all_cells, chosen_methods
from snce.bench.plots import plot_heat_map, plot_trade_off
from snce.bench.report import Strip, write_report
from snce.bench.rows import SEPARATOR, join_rows, read_rows
from snce.bench.summary import KEPT_APART, group_stamps, markdown, summarise, write_summary
from snce.bench.tuning import read_tuned, tune
from snce.bench.turns import added_times
from snce.engines.shards import shard
from snce.engines.spread import Crew
from snce.errors import SnceError
from snce.storage import write_text

if TYPE_CHECKING:
    from rich.console import Console

    from snce.bench.config import BenchConfig


def run_bench(config: BenchConfig, console: Console) -> None:
    """Tune, run, and sum up what all shards have left in the folder so far.

    Raises:
        SnceError: an unknown method or concept, a malformed list, a summary to join that was measured on other prompts,
            or a folder that cannot be written.
    """
    methods = chosen_methods(config.methods)
    cells = all_cells(config, methods)
    shard(cells, config.shard)  # a bad one is refused before the work
    others = read_summary(config.join) if config.join else {}
    earlier = read_tuned(config.tuned) if config.tuned else {}
    crew = Crew(config.workers, config.engine)
    bench = Bench(config.out, progress=True)
    one_each = {SEPARATOR.join(cell.erased): cell for cell in cells}
    # what cannot be joined is refused before the work, too; prompts by looks are made here, not by a worker
    check_joinable(group_stamps({erased: bench.stamp(cell) for erased, cell in one_each.items()}), others)
    if config.look_alikes:
        near = {cell.erased: bench.neighbours(cell) for cell in one_each.values()}
        write_text(config.out / "look-alikes.md", table(near))
    train_shared(bench, methods, crew, console)
    if config.tune:
        cells = tune(bench, cells, crew, console, earlier)
    parts = config.out / "parts"
    own = shard(cells, config.shard)
    run_cells(bench, own, parts, crew, console, "precision suite")
    done = {cell: part_of(cell, parts) for cell in cells if is_done(bench, cell, parts)}  # of all shards
    if lost := set(own) - done.keys():
        raise SnceError(
            f"the workers have left {len(lost)} of {len(own)} parts somewhere else than in {parts}: --out must be the "
            "same folder on all machines"
        )
    found = list(done.values())
    join_rows(found, config.out / "results.parquet")
    columns, metadata = read_rows(found)
    complete = len(done) == len(cells)
    summary = summarise(columns, metadata, added_times(bench, cells, console) if complete else {})
    if complete:
        summary = join_summaries(summary, others)
    else:
        joined = f"; {config.join} is joined when all are there" if others else ""
        console.print(f"{len(cells) - len(done)} of {len(cells)} parts are still to come{joined}", markup=False)
    write_summary(config.out, summary)
    if not ABLATIONS.keys().isdisjoint(methods):
        chose = [title for title in KEPT_APART if title in summary and config.concepts.strip() == "validation"]
        write_text(config.out / "ablations.md", ablation_tables(summary[next(iter([*chose, *summary]))]))
    plots = {
        "trade-off.png": ("Erasure against retention.", plot_trade_off),
        "heat-map.png": ("Harmonic mean by method and erased concepts.", plot_heat_map),
    }
    for name, (_, plot) in plots.items():
        plot(summary, config.out / name)
    captions = [(caption, config.out / name) for name, (caption, _) in plots.items()]
    strips = [Strip(cell.method, cell.erased, path.with_suffix(".png")) for cell, path in done.items()]
    write_report(config.out / "report.html", summary, captions, strips)
    console.print(markdown(summary), markup=False, soft_wrap=True)
    console.print(f"Preparing and drawing took {cpu_hours(columns, metadata):.1f} hours of CPU time.", markup=False)
