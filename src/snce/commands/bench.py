"""`snce bench`: the work is in `snce.bench`."""

from dataclasses import replace
from inspect import cleandoc

from snce.bench.config import BenchConfig
from snce.commands.console import check_folder, open_pipeline, stdout

__all__ = ["DESCRIPTION", "BenchConfig", "run"]

EXAMPLES = """

Examples:
  snce bench --workers 2 --out runs/bench
  snce bench --methods "UCE, ESD-x, SNCE" --concepts cigarette,bomb --sets 1 --out runs/few
  snce bench --methods ablations --concepts validation --sets 1 --no-tune --workers 2 --out runs/ablations
  snce bench --suite coco --model CompVis/stable-diffusion-v1-4 --eraser church.safetensors --out runs/coco"""

DESCRIPTION = cleandoc(BenchConfig.__doc__ or "") + EXAMPLES


def run(config: BenchConfig) -> None:
    """Run the benchmark and print its table.

    Raises:
        SnceError: options that make no sense, and whatever the suite complains of.
    """
    config.check()
    check_folder(config.out)
    if config.suite == "emblem":
        from snce.bench.run import run_bench

        run_bench(config, stdout())
    else:
        from snce.bench.suites.run import run_suite
        from snce.commands.hub_files import local_file
        from snce.erase.eraser import ConceptEraser

        if config.eraser:
            config = replace(config, eraser=str(local_file(config.eraser, ConceptEraser.hub_file)))
        run_suite(config, stdout(), open_pipeline)
