"""`snce harvest`: prompts to token embeddings on disk, for `snce train`."""

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from snce.commands.console import check_folder, on_terminal, open_pipeline, stdout
from snce.commands.corpus import cache_of, call_options, tower_folder, training_prompts
from snce.commands.train import TrainOptions
from snce.engines.spread import check_engine, check_same, spread, workers_of
from snce.errors import SnceError
from snce.pipelines import name_for_workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from snce.text.tokens import Tokens
    from snce.text.towers import TextTower

DESCRIPTION = """\
Encode prompts, and keep the token embeddings in DIR/embeddings, where `snce train` looks for them: it then trains
without encoding. Of use where encoding is the long part: with several processes, or on the machines of a Ray cluster.

Examples:
  snce harvest emblem --workers 2 --out runs/emblem
  snce harvest stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts captions.csv:caption --out runs/sd15 \
--engine ray --workers 8
  snce train stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts captions.csv:caption --out runs/sd15

Give `snce train` the same MODEL, --prompts, --captions, --seed and --max-sequence-length: other prompts, or the same in
another order, have embeddings of their own. An interrupted run goes on where it stopped when the same command is given
again; a second one on the same folder waits for the first. Disk: 2 bytes x positions x width per prompt (118 KB for the
77 x 768 of Stable Diffusion 1.x)."""


@dataclass(frozen=True)
class HarvestOptions:
    """Keep the token embeddings of prompts on disk."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """"emblem", a diffusers folder, or a hub id."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of the training to be: the --out of `snce train`."""
    prompts: Annotated[str | None, tyro.conf.arg(metavar="FILE.txt|FILE.csv:COLUMN")] = None
    """Prompts, one a line or a CSV column. For emblem they may be left out: it brings its own."""
    captions: int = TrainOptions.captions
    """How many of Emblem's own captions to take where --prompts is left out."""
    engine: Literal["local", "ray"] = "local"
    """"local": this machine. "ray": the Ray cluster that RAY_ADDRESS names or this machine belongs to, else one of this
    machine alone (pip install 'snce[ray]'). The embeddings are the same."""
    workers: int | None = None
    """Processes, each with the model and one thread. Left out: this process with all its threads; with --engine ray,
    one per core of this machine."""
    verify: bool = False
    """Read all that is there and check it against its checksums; what is damaged is encoded anew. Left out, that is
    done only for what an interrupted run has left, and for files that were written to since."""
    max_sequence_length: int | None = None
    """Tokens that prompts are padded to, if the pipeline will be called with another number than its own default."""
    device: str = "auto"
    """Where the model runs: cpu, cuda, cuda:1, mps; "auto" takes CUDA where there is one. On Ray, a worker then has a
    GPU for itself, if the cluster has any."""
    seed: int = 0
    """Seed of the order of the prompts, and of Emblem's captions."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense. Not in `__post_init__`: the parser would frame the message."""
        for name in ("captions", "max_sequence_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SnceError(f"--{name.replace('_', '-')} {value} must be at least 1")
        check_engine(self.engine, self.workers)


def run_harvest(options: HarvestOptions) -> None:
    """Encode what is not in DIR/embeddings yet.

    Raises:
        SnceError: no prompts, an unknown model, a folder that cannot be written, no room for the embeddings, workers
            that were lost, or that have another text encoder.
    """
    from snce.text.harvest import harvest
    from snce.text.towers import TextTower

    options.check()
    check_folder(options.out)
    prompts = training_prompts(options)
    towers = TextTower.all_of(open_pipeline(options.model, options.device), **call_options(options.max_sequence_length))
    workers = workers_of(options.engine, options.workers)
    for tower in towers:
        cache = cache_of(tower_folder(options.out, tower, towers))
        encode = partial(_encode_elsewhere, options, tower, workers) if workers else None
        data = harvest(tower, prompts, cache, progress=on_terminal(), verify=options.verify, encode=encode)
        n, positions, width = data.x.shape
        size = data.x.nbytes / 1e9
        stdout().print(
            f"{cache}: {n:,} prompts x {positions} positions x {width}, {size:.2f} GB", soft_wrap=True, markup=False
        )
        del data  # before the next tower's take memory
    command = shlex.join(["snce", "train", options.model, *_given(options), "--out", str(options.out)])
    stdout().print(f"Next: {command}", soft_wrap=True, markup=False)


def _given(options: HarvestOptions) -> list[str]:
    """The options by which `snce train` finds the same prompts, in the same order and length."""
    names = ("prompts", "captions", "max_sequence_length", "seed")
    values = {name: getattr(options, name) for name in names if getattr(options, name) != getattr(TrainOptions, name)}
    return [text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def _encode_elsewhere(
    options: HarvestOptions, tower: "TextTower", workers: int, blocks: "Iterable[tuple[int, Tokens]]"
) -> "Iterator[tuple[int, np.ndarray]]":
    model, call = name_for_workers(options.model), call_options(options.max_sequence_length)
    place = (model, options.device, tower.place, call, tower.fingerprint)
    gpu = options.device != "cpu"
    return spread(options.engine, workers, _Worker.start, place, _Worker.encode, blocks, gpu)


class _Worker:
    """A process with a tower of its own."""

    tower: "TextTower"

    @classmethod
    def start(cls, model: str, device: str, place: str, call: dict[str, Any], fingerprint: str) -> None:
        """fingerprint: of the driver's tower, by which the cache knows whose embeddings it holds."""
        from snce.text.towers import TextTower

        tower = TextTower.from_pipeline(open_pipeline(model, device), place, **call)
        check_same({tower.name: tower.fingerprint}, {tower.name: fingerprint})
        cls.tower = tower

    @classmethod
    def encode(cls, number: int, tokens: "Tokens") -> "tuple[int, np.ndarray]":
        from snce.text.harvest import encode_blocks

        return next(encode_blocks(cls.tower, [(number, tokens)]))
