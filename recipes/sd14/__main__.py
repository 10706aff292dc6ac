"""`python -m recipes.sd14 all --captions FILE.csv:caption --i2p FILE.csv --out DIR`; --help has the options."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import tyro

from snce.commands.console import check_folder, stderr
from snce.errors import SnceError

from .config import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps and return the exit code: 0, 2 for bad input, 130 for an interruption.

    Raises:
        SystemExit: from the parser, and with the exit code of a command that fails.
    """
    recipe = tyro.cli(Recipe, prog="python -m recipes.sd14", args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    try:
        recipe.check()
        check_folder(recipe.out)
        from .steps import Work

        Work(recipe).run(recipe.step)
    except SnceError as error:
        stderr().print(f"error: {error}", style="bold red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        stderr().print("interrupted; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
