"""`snce demo`: the work is in `snce.demo`."""

from inspect import cleandoc

from snce.commands.console import check_folder, stdout
from snce.demo.config import DemoConfig

__all__ = ["DESCRIPTION", "DemoConfig", "run"]

EXAMPLES = """

Examples:
  snce demo
  snce demo --concept bomb --out runs/bomb"""

DESCRIPTION = cleandoc(DemoConfig.__doc__ or "") + EXAMPLES


def run(config: DemoConfig) -> None:
    """Run the demo and say what it found.

    Raises:
        SnceError: options that make no sense, an unknown concept, or a folder that cannot be written.
    """
    from snce.demo.run import run_demo

    config.check()
    check_folder(config.out)
    run_demo(config, stdout())
