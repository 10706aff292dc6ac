"""The `snce` command. Each subcommand is a dataclass of options and a function in `snce.commands`."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union

import tyro

from snce.commands.console import stderr, stdout
from snce.commands.options_help import flow_help
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DESCRIPTION = """\
Erase a concept from a text-to-image model by switching off one neuron.

  snce demo                                             the whole story on a laptop, nothing to download
  snce train emblem --out runs/emblem                   a sparse autoencoder on the text embeddings
  snce find emblem --sae runs/emblem --concept cigarette --out cigarette.safetensors
  snce generate emblem --prompt "a cigarette" --eraser cigarette.safetensors --out after.png
  snce inspect cigarette.safetensors

`snce COMMAND --help` explains each; `snce --version` prints the version."""


class Command(NamedTuple):
    """A subcommand. Its module must import nothing heavy before `run` is called."""

    module: str
    options: str
    """The dataclass of its options."""
    run: str
    """The function that takes them."""


COMMANDS = {
    "demo": Command("snce.commands.demo", "DemoConfig", "run"),
    "harvest": Command("snce.commands.harvest", "HarvestOptions", "run_harvest"),
    "train": Command("snce.commands.train", "TrainOptions", "run_train"),
    "find": Command("snce.commands.find", "FindOptions", "run_find"),
    "generate": Command("snce.commands.generate", "GenerateOptions", "run_generate"),
    "convert": Command("snce.commands.convert", "ConvertOptions", "run_convert"),
    "bake": Command("snce.commands.bake", "BakeOptions", "run_bake"),
    "export-onnx": Command("snce.commands.export_onnx", "ExportOnnxOptions", "run_export_onnx"),
    "inspect": Command("snce.commands.inspect", "InspectOptions", "run_inspect"),
    "push": Command("snce.commands.push", "PushOptions", "run_push"),
    "concepts": Command("snce.commands.concepts", "ConceptsOptions", "run_concepts"),
    "bench": Command("snce.commands.bench", "BenchConfig", "run"),
}

INTERRUPTED = 130
BAD_INPUT = 2
_CONFIG = (tyro.conf.FlagCreatePairsOff,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for bad input, 130 for an interruption.

    Raises:
        SystemExit: from the parser, after --help (0) and for options that it does not understand (2).
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if arguments == ["--version"]:
        from snce import __version__

        stdout().print(f"snce {__version__}")
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        for chatter in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", chatter)
        warnings.showwarning = _show_warning
        try:
            run, options = _parse(arguments)
            run(options)
        except SnceError as error:
            return _fail(str(error))
        except OSError as error:
            return _fail(f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}")
        except KeyboardInterrupt:
            stderr().print(
                "interrupted; no file is half-written, and a long run goes on when its command is given again"
            )
            return INTERRUPTED
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            return _fail("not enough memory; use fewer --latents, a smaller --batch, fewer prompts, or a smaller model")
    return 0


def _parse(arguments: list[str]) -> tuple[Callable[[Any], object], Any]:
    """The function to run and its options."""
    name = arguments[0]
    if name not in COMMANDS:
        choice: Any = Union[tuple(Annotated[_load(n)[1], tyro.conf.subcommand(n)] for n in COMMANDS)]  # noqa: UP007
        tyro.cli(choice, prog="snce", description=DESCRIPTION, args=arguments, config=_CONFIG)
        raise AssertionError("the parser exits: the first argument names no command")
    module, options, run = _load(name)
    flow_help(options)
    description = getattr(module, "DESCRIPTION", None) or options.__doc__
    return run, tyro.cli(options, prog=f"snce {name}", description=description, args=arguments[1:], config=_CONFIG)


def _load(name: str) -> tuple[Any, type, Callable[[Any], object]]:
    command = COMMANDS[name]
    module = import_module(command.module)
    return module, getattr(module, command.options), getattr(module, command.run)


def _fail(message: str) -> int:
    _one_line("error", "bold red", message)
    return BAD_INPUT


def _show_warning(message: Warning | str, *_where: object, **_more: object) -> None:
    _one_line("warning", "yellow", str(message))


def _one_line(label: str, style: str, message: str) -> None:
    from rich.text import Text

    stderr().print(Text.assemble((f"{label}: ", style), (" ".join(message.split()), style)), soft_wrap=True)


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text


if __name__ == "__main__":
    sys.exit(main())
