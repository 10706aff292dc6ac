"""`snce convert`: an SAE from or into the files of other libraries."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from snce.commands.console import check_folder, open_pipeline, status, stdout
from snce.errors import SnceError

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder
    from snce.sae.origin import SAEOrigin
    from snce.text.towers import TextTower

DESCRIPTION = """\
Bring an SAE into the files of SAELens or eai-sparsify, or one of theirs into ours. Which library SOURCE is of is read
off its files.

Examples:
  snce convert runs/emblem runs/emblem-saelens --to saelens
  snce convert runs/position runs/sparsify/text_encoder.final_layer_norm --to sparsify
  snce convert theirs runs/theirs --to snce --model emblem
  snce convert theirs runs/theirs --to snce --model stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts captions.txt

Both libraries code each token position by itself. An SAE of `snce train --support position` carries over exactly; with
BatchTopK, SAELens gets it as a jumprelu with our thresholds, as it saves its own, unless you say --activation topk. One
that codes prompts (the default of `snce train`) becomes a jumprelu of SAELens with our thresholds: a latent's highest
activation in a prompt carries over where it passes the threshold, weaker positions fall silent. For sparsify, which has
no thresholds, it is refused.

A foreign file says neither which text encoder it is for nor in what unit its activations are: with --to snce, name the
model, --place where its denoiser reads texts at several places, and prompts of the kind that the SAE was trained on.
The prompts set the unit and the thresholds, and the table that is printed says how well the SAE fits the model.
`snce find` then takes the folder."""

PROMPTS = 2000
"""More would cost memory and change the thresholds little."""


@dataclass(frozen=True)
class ConvertOptions:
    """Bring an SAE into another library's files, or into ours."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """Folder of the SAE: of `snce train`, of SAELens, or of one hookpoint of sparsify."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write."""
    to: Literal["saelens", "sparsify", "snce"]
    """Whose files to write."""
    model: str | None = None
    """The model whose text encoder a foreign SAE was trained on: "emblem", a diffusers folder, or a hub id."""
    prompts: Annotated[str | None, tyro.conf.arg(metavar="FILE.txt|FILE.csv:COLUMN")] = None
    """Prompts for a foreign SAE, one a line or a CSV column; 2000 of them are used. Emblem brings its own."""
    place: Annotated[str | None, tyro.conf.arg(metavar="TOWER")] = None
    """Which of the text towers of --model a foreign SAE reads, where there are several, as in Stable Diffusion XL:
    text_encoder_2.output.text_embeds, say. Left out, the error names them."""
    activation: Literal["topk", "jumprelu"] | None = None
    """With --to saelens: choose latents by the k strongest per position, or by thresholds. Left out: what matches the
    SAE best."""

    def check(self) -> None:
        """Raise SnceError if options contradict each other. Not in `__post_init__`: the parser would frame it."""
        if self.activation is not None and self.to != "saelens":
            raise SnceError(f"--activation is for --to saelens; leave it out for {self.to}")


def run_convert(options: ConvertOptions) -> None:
    """Read SOURCE, write OUT.

    Raises:
        SnceError: no SAE in SOURCE, one that cannot be represented in the other format, a missing --model or --place,
            or an OUT that holds another SAE or cannot be written.
    """
    from snce.sae.formats import load_sae, save_sae
    from snce.sae.saelens import save_saelens
    from snce.sae.sparsify import save_sparsify

    options.check()
    source = library_of(options.source)
    if source == options.to:
        raise SnceError(f"{options.source} is in the format of {source} already")
    there = library_of(options.out)
    if there not in (None, options.to):
        raise SnceError(f"{options.out} holds an SAE of {there}, which would be lost; give another OUT")
    if source == "snce" and (options.model or options.prompts):
        raise SnceError("--model and --prompts are for an SAE of another library: leave them out")
    if source == "snce" and options.place is not None:
        raise SnceError("--place is for an SAE of another library: leave it out")
    check_folder(options.out)
    if source in ("saelens", "sparsify"):
        sae, origin = import_sae(source, options)
    else:
        sae, origin = load_sae(options.source)
    if options.to == "saelens":
        save_saelens(sae, options.out, origin, options.activation)
    elif options.to == "sparsify":
        save_sparsify(sae, options.out, origin)
    else:
        save_sae(sae, options.out, origin)
    stdout().print(f"{options.out} written. {next_step(options)}", soft_wrap=True, markup=False)


def library_of(folder: Path) -> str | None:
    """Whose SAE is in a folder: "snce", "saelens", "sparsify", or None if there is none to be seen."""
    from snce.sae import saelens, sparsify
    from snce.sae.formats import holds_foreign_sae, sae_file

    if holds_foreign_sae(folder):
        if folder.is_file():
            raise SnceError(f"{folder} is a part of another library's SAE; name its folder: {folder.parent}")
        if (folder / saelens.FILE).is_file():
            return "saelens"
        if (folder / sparsify.FILE).is_file():
            return "sparsify"
        raise SnceError(f"{folder} has a cfg.json, but neither {saelens.FILE} nor {sparsify.FILE} beside it")
    if not folder.is_file() and any(folder.glob("*/cfg.json")):
        names = ", ".join(sorted(path.parent.name for path in folder.glob("*/cfg.json")))
        raise SnceError(f"{folder} holds several SAEs; name the folder of one of them: {names}")
    return "snce" if sae_file(folder).is_file() else None


def import_sae(library: str, options: ConvertOptions) -> "tuple[SparseAutoencoder, SAEOrigin]":
    """A foreign SAE, with what it does on the model's embeddings printed.

    Raises:
        SnceError: --model was left out, or what `tower_of`, `load_saelens` and `load_sparsify` refuse.
    """
    from snce.commands.train import show_metrics
    from snce.sae.metrics import SAEMetrics
    from snce.sae.saelens import load_saelens
    from snce.sae.sparsify import load_sparsify
    from snce.text.harvest import harvest

    if options.model is None:
        raise SnceError(
            f"{options.source} does not say for which text encoder it is: name the model with --model (`emblem`, a "
            "diffusers folder, or a hub id)"
        )
    texts = _prompts(options, options.model)
    tower = tower_of(options.model, options.place)
    with status("reading prompts"):
        data = harvest(tower, texts)
        load = load_saelens if library == "saelens" else load_sparsify
        sae, origin = load(options.source, tower, data)
    metrics = SAEMetrics(*(origin.metrics[name] for name in SAEMetrics._fields))
    show_metrics(sae, metrics, origin.metrics.get("threshold_f1"), imported=True)
    return sae, origin


def tower_of(model: str, place: str | None) -> "TextTower":
    """The tower that a foreign SAE reads: the model's only one, or the one at `place`.

    Raises:
        SnceError: the model cannot be loaded, has several towers and none is named, or has none at `place`.
    """
    from snce.text.towers import TextTower

    pipe = open_pipeline(model)
    places = [tower.place for tower in TextTower.all_of(pipe)]
    if place is None and len(places) > 1:
        raise SnceError(
            f"{type(pipe).__name__} has several towers: say which one the SAE reads, by --place and one of "
            f"{', '.join(places)}"
        )
    return TextTower.from_pipeline(pipe, place or "")


def _prompts(options: ConvertOptions, model: str) -> list[str]:
    from snce.commands.corpus import training_prompts
    from snce.commands.train import TrainOptions

    return training_prompts(TrainOptions(model, options.out, options.prompts, captions=PROMPTS))[:PROMPTS]


def next_step(options: ConvertOptions) -> str:
    """What to do with the folder."""
    if options.to == "saelens":
        return f"Next: sae_lens.SAE.load_from_disk({str(options.out)!r}), and see docs/ecosystem.md"
    if options.to == "sparsify":
        return f"Next: sparsify.SparseCoder.load_from_disk({str(options.out)!r}), and see docs/ecosystem.md"
    return f"Next: snce find {options.model or 'MODEL'} --sae {options.out} --concept NAME --out NAME.safetensors"
