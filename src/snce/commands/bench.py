"""`snce bench`: the work is in `snce.bench`."""

from inspect import cleandoc

from snce.bench.config import BenchConfig
from snce.commands.console import check_folder, stdout
from snce.errors import SnceError

__all__ = ["DESCRIPTION", "BenchConfig", "run"]

EXAMPLES = """

Examples:
  snce bench --workers 2 --out runs/bench
  snce bench --methods "UCE, ESD-x, SNCE" --concepts cigarette,bomb --sets 1 --out runs/few"""

DESCRIPTION = cleandoc(BenchConfig.__doc__ or "") + EXAMPLES


def run(config: BenchConfig) -> None:
    """Run the benchmark and print its table."""
    from snce.bench.run import run_bench

    check_folder(config.out)
    if config.workers < 1:
        raise SnceError(f"--workers {config.workers} must be at least 1")
    run_bench(config, stdout())
