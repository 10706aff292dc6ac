"""`snce find`: a trained SAE and a concept to an eraser."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from snce.commands.console import check_output, open_pipeline, stderr, stdout
from snce.errors import SnceError

if TYPE_CHECKING:
    from snce.erase.eraser import ConceptEraser
    from snce.neurons.find import NeuronCard
    from snce.neurons.plot import ChosenNeuron
    from snce.sae.formats import SAEOrigin
    from snce.sae.model import SparseAutoencoder
    from snce.text.prompts import Concept
    from snce.text.towers import TextTower

DESCRIPTION = """\
Find the neuron of a concept, and write the eraser that switches it off.
Half of the concept's prompts ranks the neurons; the other half sets the threshold and gives the figures on the card.

Examples:
  snce find emblem --sae runs/emblem --concept cigarette --out cigarette.safetensors
  snce find stable-diffusion-v1-5/stable-diffusion-v1-5 --sae runs/sd15 --concept church.yaml --out church.safetensors

A concept file has the keys name, targets (prompts that show the concept) and neutrals (prompts that do not, near
neighbours among them). Beside FILE.safetensors come FILE.md, its card, and FILE.png, a plot."""


class Found(NamedTuple):
    """In one tower."""

    eraser: "ConceptEraser"
    cards: "list[NeuronCard]"
    evidence: "list[ChosenNeuron]"


POOR_RECALL = 0.9
MANY_FALSE_FIRES = 0.05


@dataclass(frozen=True)
class FindOptions:
    """Find the neuron of a concept and write an eraser."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """"emblem", a diffusers folder, or a hub id: the model that the SAE was trained on."""
    sae: Annotated[str, tyro.conf.arg(metavar="DIR|hf://...")]
    """Folder that `snce train` wrote, or hf://OWNER/NAME for an SAE on the hub."""
    concept: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.yaml")]
    """A bundled concept (`snce concepts` lists them) or a concept file."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.safetensors")]
    """The eraser."""
    rule: Literal["modulated", "frequency", "difference", "saeuron", "itd", "auroc"] = "modulated"
    """Score by which the neurons are ranked: see `snce.neurons.scores`."""
    neurons: int = 1
    """How many of the best neurons to switch off."""
    strength: float = 1.25
    """1 takes out what the neurons stand for, more pushes past zero, 0 leaves everything as it is."""
    top: int = 10
    """How many neurons to show."""
    device: str = "auto"
    """Where the model runs: cpu, cuda, cuda:1, mps; "auto" takes CUDA where there is one."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense. Not in `__post_init__`: the parser would frame the message."""
        for name in ("neurons", "top"):
            if getattr(self, name) < 1:
                raise SnceError(f"--{name} {getattr(self, name)} must be at least 1")
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise SnceError(f"--strength {self.strength} must be a number that is not negative")


def run_find(options: FindOptions) -> None:
    """Rank the neurons, and write the eraser, its card and its plot.

    Raises:
        SnceError: an SAE of another text encoder, an unknown or incomplete concept, no neuron that fires on it.
    """
    from snce.commands.corpus import call_options
    from snce.erase.card import write_card
    from snce.erase.eraser import compose
    from snce.neurons.plot import plot_neurons
    from snce.text.towers import TextTower, tower_at

    options.check()
    check_output(options.out, ".safetensors")
    concept = concept_called(options.concept)
    saes = read_saes(options)
    lengths = {origin.training.get("max_sequence_length") for _, origin in saes.values()}
    if len(lengths) > 1:
        raise SnceError(f"the SAEs in {options.sae} were trained with different --max-sequence-length; train them anew")
    pipe = open_pipeline(options.model, options.device)
    towers = TextTower.all_of(pipe, **call_options(lengths.pop()))
    chosen = {place: tower_at(place, towers) for place in saes}
    for place, (_, origin) in saes.items():
        origin.check(chosen[place])
    found = {tower.place: find_in(tower, *saes[place], concept, options) for place, tower in chosen.items()}
    eraser = compose([it.eraser for it in found.values()])
    eraser.save(options.out)
    write_card(eraser, options.out)
    plots = []
    for place, it in found.items():
        plots.append(options.out.with_suffix(".png" if len(found) == 1 else f".{place}.png"))
        plot_neurons(concept.name, it.cards, it.evidence, plots[-1])
    for tower in towers:
        if tower.place not in found:
            stderr().print(
                f"[yellow]warning: no SAE for {tower.place}: what it tells the denoiser is left as it is[/yellow]"
            )
    stdout().print(
        f"{options.out} written ({options.out.stat().st_size} bytes), with its card {options.out.with_suffix('.md')} "
        f"and its plot {', '.join(map(str, plots))}. "
        f'Next: snce generate {options.model} --eraser {options.out} --prompt "..." --out picture.png',
        soft_wrap=True,
        markup=False,
    )


def read_saes(options: FindOptions) -> "dict[str, tuple[SparseAutoencoder, SAEOrigin]]":
    """The SAEs, by the place of their tower.

    Raises:
        SnceError: there is none, or one with fewer neurons than are asked for.
    """
    from snce.commands.hub_files import local_file
    from snce.sae.formats import load_sae, saes_in
    from snce.sae.model import SparseAutoencoder

    saes = {}
    for path in saes_in(local_file(options.sae, SparseAutoencoder.hub_file)):
        sae, origin = load_sae(path)
        if options.neurons > sae.config.latents:
            raise SnceError(f"--neurons {options.neurons} must not pass the SAE's {sae.config.latents}")
        saes[f"{origin.tower}.{origin.module}"] = sae, origin
    return saes


def find_in(
    tower: "TextTower", sae: "SparseAutoencoder", origin: "SAEOrigin", concept: "Concept", options: FindOptions
) -> "Found":
    """Rank the neurons of one tower, and make the eraser of the best."""
    from snce.erase.build import build_eraser, highest
    from snce.hub.names import hub_model
    from snce.neurons.find import find_neurons
    from snce.neurons.plot import ChosenNeuron
    from snce.text.harvest import harvest

    with stderr().status(f"reading the prompts of {concept.name!r}"):
        target, neutral = harvest(tower, concept.targets), harvest(tower, concept.neutrals)
        rank_t, test_t = target.halves()
        rank_n, test_n = neutral.halves()
        cards = find_neurons(sae, rank_t, rank_n, options.rule, max(options.top, options.neurons))
    eraser = build_eraser(concept.name, sae, cards[: options.neurons], tower, test_t, test_n, options.strength)
    eraser = with_origin(eraser, origin, hub_model(options.model))
    show_neurons(cards, eraser, concept.name)
    fired_t, fired_n = (highest(eraser.neurons, prompts) for prompts in (test_t, test_n))
    evidence = [
        ChosenNeuron(entry["neuron"], entry["threshold"], fired_t[:, i], fired_n[:, i])
        for i, entry in enumerate(eraser.card[concept.name]["neurons"])
    ]
    return Found(eraser, cards, evidence)


def concept_called(name: str) -> "Concept":
    """A concept file, where `name` is the path of one; else the bundled concept of that name.

    Raises:
        SnceError: neither, or fewer than two prompts of a kind: they are split in halves.
    """
    from snce.text.prompts import Concept

    if Path(name).suffix.lower() in (".yaml", ".yml") or Path(name).is_file():
        concept = Concept.load(name)
    else:
        from snce.emblem.concepts import load_concept

        concept = load_concept(name)
    for kind in ("targets", "neutrals"):
        if len(getattr(concept, kind)) < 2:
            raise SnceError(
                f"concept {concept.name!r} has one prompt among its {kind}; it takes two at least, better fifty: one "
                "half ranks the neurons, the other sets the threshold"
            )
    return concept


def with_origin(eraser: "ConceptEraser", origin: "SAEOrigin", base_model: str | None) -> "ConceptEraser":
    """The eraser with the SAE's training and metrics on its card, and the model's name on the hub if it has one."""
    trained: dict[str, Any] = {"sae_training": origin.training, "sae_metrics": origin.metrics}
    if base_model is not None:
        trained["base_model"] = base_model
    return replace(eraser, card={concept: {**entry, **trained} for concept, entry in eraser.card.items()})


def show_neurons(cards: "list[NeuronCard]", eraser: "ConceptEraser", concept: str) -> None:
    """Print the ranked neurons, the operating points of the chosen ones, and a warning where they are poor."""
    from rich.table import Table

    from snce.neurons.calibrate import OperatingPoint
    from snce.neurons.find import CARRIES

    entries = eraser.card[concept]["neurons"]
    points = {e["neuron"]: OperatingPoint(*(e[name] for name in OperatingPoint._fields)) for e in entries}
    table = Table(title=f"neurons of {concept!r} in {eraser.place}, by {cards[0].rule}")
    pairs = ("fires on\ntarget", "fires on\nneutral", "activation\non target", "activation\non neutral")
    for heading in ("", "neuron", "score", *pairs, "AUROC"):
        table.add_column(heading, justify="right")
    for card in cards:
        table.add_row(
            "->" if card.neuron in points else "",
            str(card.neuron),
            f"{card.score:.3f}",
            f"{card.frequency_target:.1%}",
            f"{card.frequency_neutral:.1%}",
            f"{card.activation_target:.3f}",
            f"{card.activation_neutral:.3f}",
            f"{card.auroc:.3f}",
        )
    stdout().print(table)
    partial = [card for card in cards if card.neuron in points and card.frequency_target < CARRIES]
    for neuron, point in points.items():
        stdout().print(
            f"neuron {neuron}, on prompts that did not choose it: fires on {point.recall:.1%} of the target prompts "
            f"and {point.false_fires:.1%} of the neutral ones, at threshold {point.threshold:.3f}",
            soft_wrap=True,
        )
    if len(partial) == len(points):
        stderr().print(
            f"[yellow]warning: the SAE uses {'this neuron' if len(points) == 1 else 'each of these neurons'} in "
            f"{max(card.frequency_target for card in partial):.0%} of the target prompts at most, so that others carry "
            "a part of the concept and it will hardly go as a whole; try an SAE with more training steps, "
            "latents or prompts[/yellow]",
            soft_wrap=True,
        )
    caught = max(point.recall for point in points.values())
    wrong = max(point.false_fires for point in points.values())
    if caught < POOR_RECALL or wrong > MANY_FALSE_FIRES:
        stderr().print(
            f"[yellow]warning: at best {caught:.0%} of the target prompts are caught, and up to {wrong:.0%} of the "
            "neutral ones change; try another --rule, or an SAE with more training steps, latents or prompts[/yellow]",
            soft_wrap=True,
        )
