"""`snce train`: prompts to a sparse autoencoder."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from snce.commands.console import check_folder, on_terminal, open_pipeline, status, stdout
from snce.commands.corpus import cache_of, call_options, tower_folder, training_prompts
from snce.errors import SnceError

if TYPE_CHECKING:
    from snce.sae.metrics import SAEMetrics
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings
    from snce.text.towers import TextTower

DESCRIPTION = """\
Train a sparse autoencoder (SAE) on the token embeddings that a model's text encoder hands to its denoiser.
Run it once per text encoder; `snce find` then finds the neuron of any concept in it.

Examples:
  snce train emblem --out runs/emblem
  snce train stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts captions.csv:caption --out runs/sd15

The metrics that it prints at the end are taken on 50,000 prompts at most of those held out, and of those trained on:
of more, on a random sample.

An interrupted run goes on where it stopped when the same command is given again."""

CALIBRATION_SHARE = 0.1
CALIBRATION_PROMPTS = 2000


@dataclass(frozen=True)
class TrainOptions:
    """Train a sparse autoencoder on a model's token embeddings."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """"emblem", a diffusers folder, or a hub id."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the SAE, the cached embeddings and the checkpoint."""
    prompts: Annotated[str | None, tyro.conf.arg(metavar="FILE.txt|FILE.csv:COLUMN")] = None
    """Prompts to train on, one a line or a CSV column. For emblem they may be left out: it brings its own."""
    captions: int = 10_000
    """How many of Emblem's own captions to train on where --prompts is left out."""
    latents: int | None = None
    """Neurons in the dictionary. Left out: 640 for emblem, 2048 for another model."""
    k: int | None = None
    """Active neurons per prompt (--support prompt) or per token position (--support position). Left out: 4 for emblem,
    8 for another model."""
    support: Literal["prompt", "position"] = "prompt"
    """Whether the positions of a prompt share their active neurons. "position" codes each token by itself."""
    activation: Literal["topk", "batchtopk"] = "topk"
    """Choose the k strongest of each prompt, or the k * prompts strongest of a batch."""
    steps: int = 4_800
    """Optimiser steps."""
    batch: int = 64
    """Prompts per step."""
    lr: float = 3e-3
    """Peak learning rate of Adam."""
    max_sequence_length: int | None = None
    """Tokens that prompts are padded to, if the pipeline will be called with another number than its own default.
    `snce find` takes it from the SAE."""
    device: str = "auto"
    """Where the model encodes the prompts: cpu, cuda, cuda:1, mps; "auto" takes CUDA where there is one. The SAE is
    trained on the CPU."""
    seed: int = 0
    """Seed of the weights, the batches, the split of the prompts, and Emblem's captions."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense. Not in `__post_init__`: the parser would frame the message."""
        for name in ("captions", "latents", "k", "steps", "batch", "max_sequence_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SnceError(f"--{name.replace('_', '-')} {value} must be at least 1")
        latents, k = self.sizes()
        if k > latents:
            raise SnceError(f"--k {k} must not pass --latents {latents}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise SnceError(f"--lr {self.lr} must be a positive number")

    def sizes(self) -> tuple[int, int]:
        """(latents, k), with what was left out filled in."""
        from snce.demo.laboratory import SAE
        from snce.pipelines import EMBLEM
        from snce.sae.config import SAEConfig

        sae = SAE if self.model == EMBLEM else SAEConfig
        return self.latents or sae.latents, self.k or sae.k


def run_train(options: TrainOptions) -> None:
    """Harvest, train, calibrate, and write DIR/sae.safetensors.

    Raises:
        SnceError: no prompts, an unknown model, an output folder that cannot be written, or another training's.
    """
    from snce.text.towers import TextTower

    options.check()
    check_folder(options.out)
    prompts = training_prompts(options)
    towers = TextTower.all_of(open_pipeline(options.model, options.device), **call_options(options.max_sequence_length))
    for tower in towers:
        train_on(tower, prompts, tower_folder(options.out, tower, towers), options)
    stdout().print(
        f"Next: snce find {options.model} --sae {options.out} --concept NAME --out NAME.safetensors",
        soft_wrap=True,
        markup=False,
    )


def train_on(tower: "TextTower", prompts: list[str], folder: Path, options: TrainOptions) -> None:
    """Train the SAE of one tower, and write it into the folder."""
    from snce.hub.names import hub_model
    from snce.sae.config import SAEConfig, TrainConfig
    from snce.sae.formats import sae_file, save_sae
    from snce.sae.origin import SAEOrigin
    from snce.sae.thresholds import calibrate_thresholds
    from snce.sae.train import train_sae
    from snce.text.harvest import harvest

    data = harvest(tower, prompts, cache_of(folder), progress=on_terminal())
    fit, held_out = split(data)
    latents, k = options.sizes()
    config = SAEConfig(tower.width, latents, k, options.support, options.activation)
    train = TrainConfig(steps=options.steps, batch=options.batch, lr=options.lr, seed=options.seed)
    sae, metrics = train_sae(fit, config, train, folder / "checkpoint.safetensors", progress=on_terminal())
    with status("calibrating thresholds"):
        agreement = calibrate_thresholds(sae, held_out)
    origin = SAEOrigin(
        fingerprint=tower.fingerprint,
        tower=tower.name,
        module=tower.path,
        pipeline=tower.pipeline,
        training={**asdict(train), "prompts": len(prompts), "source": source_of(options.prompts)}
        | ({"base_model": options.model} if hub_model(options.model) else {})
        | call_options(options.max_sequence_length),
        metrics={**metrics._asdict(), "threshold_f1": agreement.f1},
    )
    save_sae(sae, folder, origin)
    show_metrics(sae, metrics, agreement.f1)
    stdout().print(f"{sae_file(folder)} written", soft_wrap=True, markup=False)


def source_of(prompts: str | None) -> str:
    """Where the prompts are from, for whoever gets the SAE: the file's name and column, and not where it lies."""
    if prompts is None:
        return "emblem captions"
    file, _, column = prompts.rpartition(":")
    return f"{Path(file).name}:{column}" if file.lower().endswith(".csv") else Path(prompts).name


def split(data: "Embeddings") -> tuple["Embeddings", "Embeddings"]:
    """(for training, for calibration): slices, so that a memory-mapped cache stays on disk."""
    from snce.text.harvest import Embeddings

    n = max(1, min(CALIBRATION_PROMPTS, round(CALIBRATION_SHARE * len(data))))
    return Embeddings(data.x[:-n], data.kinds[:-n]), Embeddings(data.x[-n:], data.kinds[-n:])


def show_metrics(
    sae: "SparseAutoencoder", metrics: "SAEMetrics", agreement: float | None, imported: bool = False
) -> None:
    """Print the table of metrics.

    Args:
        agreement: F1 of the calibrated thresholds; None for an SAE that is made of thresholds.
        imported: trained elsewhere, on prompts that are not known.
    """
    from rich.table import Table

    per = "prompt" if sae.config.support == "prompt" else "token position"
    table = Table(title=f"SAE with {sae.config.latents} neurons on embeddings of width {sae.config.width}")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("what it says", overflow="fold")
    measured_on, unheard = ("these prompts", "none of them") if imported else ("held-out prompts", "no training prompt")
    table.add_row("FVU", f"{metrics.fvu:.4f}", f"share of the variance that the SAE does not explain, {measured_on}")
    table.add_row("L0", f"{metrics.l0:.1f}", f"active neurons per {per}")
    table.add_row("dead", f"{metrics.dead:.1%}", f"neurons that fire on {unheard}")
    if agreement is not None:
        table.add_row("threshold F1", f"{agreement:.3f}", "how well one threshold per neuron agrees with the top k")
    stdout().print(table)
