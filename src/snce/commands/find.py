"""`snce find`: a trained SAE and concepts to erasers."""

from pathlib import Path
from typing import TYPE_CHECKING

from snce.commands.concept_files import concept_called, concepts_named
from snce.commands.console import check_folder, check_output, on_terminal, status, stderr, stdout
from snce.commands.find_options import FindOptions
from snce.commands.found import show_concepts, show_neurons, warn
from snce.commands.search import Search
from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.commands.search import Found
    from snce.text.prompts import Concept

DESCRIPTION = """\
Find the neuron of a concept, and write the eraser that switches it off. Half of the concept's prompts ranks the
neurons; the other half sets the threshold and gives the figures on the card.

Examples:
  snce find emblem --sae runs/emblem --concept cigarette --out cigarette.safetensors
  snce find stable-diffusion-v1-5/stable-diffusion-v1-5 --sae runs/sd15 --concept church.yaml --out church.safetensors
  snce find emblem --sae runs/emblem --concept bomb --concept axe --out erasers
  snce find stable-diffusion-v1-5/stable-diffusion-v1-5 --sae runs/sd15 --concept concepts --out erasers

A concept file has the keys name, targets (prompts that show the concept) and neutrals (prompts that do not, near
neighbours among them). Beside FILE.safetensors come FILE.md, its card, and FILE.png, a plot.

Several concepts give an eraser each, the same that each gets in a run of its own; the model and the SAE are loaded
once, and neutral prompts that concepts share as a whole list are read once. If one concept fails, the others are
written all the same; the error names those that did, and the exit code is 2."""


def run_find(options: FindOptions) -> None:
    """Rank the neurons, and write the erasers, their cards and their plots.

    Raises:
        SnceError: an SAE of another text encoder; an unknown or incomplete concept, or no neuron that fires on it, for
            one concept or several. What could be found of the others is written.
    """
    options.check()
    sources, several = concepts_named(options.concept)
    if several:
        if options.out.suffix.lower() == ".safetensors":
            raise SnceError(
                f"--out {options.out} is one file; several concepts want a folder: --out {options.out.stem}"
            )
        check_folder(options.out)
        find_several(sources, options)
    else:
        check_output(options.out, ".safetensors")
        find_one(concept_called(sources[0]), options)


def find_one(concept: "Concept", options: FindOptions) -> None:
    """To the file --out, with all that was ranked."""
    search = Search(options)
    with status(f"reading the prompts of {concept.name!r}"):
        found = search.find(concept)
    for it in found.values():
        show_neurons(it.cards, it.eraser, concept.name)
    plots = write_found(concept.name, found, options.out)
    warn_of_unread(search)
    stdout().print(
        f"{options.out} written ({options.out.stat().st_size} bytes), with its card {options.out.with_suffix('.md')} "
        f"and its plot {', '.join(map(str, plots))}. "
        f'Next: snce generate {options.model} --eraser {options.out} --prompt "..." --out picture.png',
        soft_wrap=True,
        markup=False,
    )


def find_several(sources: "Sequence[str]", options: FindOptions) -> None:
    """To files in the folder --out, each as soon as it is found."""
    from rich.progress import Progress

    concepts, failed = read_concepts(sources)
    if concepts:
        search, found = Search(options), {}
        with Progress(console=stderr(), transient=True, disable=not on_terminal()) as bar:
            for name in bar.track(concepts, description="concepts"):
                try:
                    towers = search.find(concepts[name])
                    write_found(name, towers, eraser_file(options.out, name))
                    found[name] = towers
                except SnceError as error:
                    failed[name] = str(error)
        if found:
            show_concepts(found, {name: eraser_file(options.out, name) for name in found})
            warn_of_unread(search)
        written = f"{len(found)} of {len(sources)} erasers written to {options.out}, each with its card and its plot"
        stdout().print(written, soft_wrap=True, markup=False)
    if failed:
        told = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise SnceError(f"{len(failed)} of {len(sources)} concepts failed: {told}")


def read_concepts(sources: "Sequence[str]") -> "tuple[dict[str, Concept], dict[str, str]]":
    """Concepts by name, those with the same neutral prompts one after the other; and why others could not be read.

    Raises:
        SnceError: two have one name, or names that make one file.
    """
    concepts: dict[str, Concept] = {}
    failed: dict[str, str] = {}
    files: dict[str, str] = {}
    for source in sources:
        try:
            concept = concept_called(source)
        except SnceError as error:
            failed[source] = str(error)
            continue
        file = str(eraser_file(Path(), concept.name)).lower()  # as file systems that know no capitals see it
        if file in files:
            raise SnceError(f"the concepts {files[file]} and {source} would both be written to {file}; rename one")
        concepts[concept.name], files[file] = concept, source
    first: dict[tuple[str, ...], int] = {}
    for concept in concepts.values():
        first.setdefault(concept.neutrals, len(first))
    return dict(sorted(concepts.items(), key=lambda item: first[item[1].neutrals])), failed


def eraser_file(folder: Path, concept: str) -> Path:
    """Where the eraser of one of several concepts goes."""
    from snce.storage import slug

    return folder / f"{slug(concept)}.safetensors"


def write_found(concept: str, found: "dict[str, Found]", path: Path) -> list[Path]:
    """The eraser of all towers, its card, and a plot for each tower, whose paths are returned."""
    from snce.erase.card import write_card
    from snce.erase.compose import compose
    from snce.neurons.plot import plot_neurons

    eraser = compose([it.eraser for it in found.values()])
    eraser.save(path)
    write_card(eraser, path)
    plots = []
    for place, it in found.items():
        plots.append(path.with_suffix(".png" if len(found) == 1 else f".{place}.png"))
        plot_neurons(concept, it.cards, it.evidence, plots[-1])
    return plots


def warn_of_unread(search: Search) -> None:
    for place in search.unread:
        warn(f"no SAE for {place}: what it tells the denoiser is left as it is")
