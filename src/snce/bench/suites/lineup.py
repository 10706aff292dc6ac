"""The methods at their published settings, on any Stable Diffusion 1.x or 2.x pipeline."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from snce.bench.lineup import BASE, OURS
from snce.bench.methods.ablation import ConceptAblation
from snce.bench.methods.esd import ESD
from snce.bench.methods.itd import InterpretThenDeactivate
from snce.bench.methods.leace import Leace
from snce.bench.methods.negative_prompt import NegativePrompt
from snce.bench.methods.neurons import SNCE, NeuronErasure, PaperSNCE
from snce.bench.methods.nothing import Nothing
from snce.bench.methods.rece import RECE
from snce.bench.methods.saeuron import SAeUron
from snce.bench.methods.saeuron_sae import Sampling, UNetSAE
from snce.bench.methods.safree import SAFREE
from snce.bench.methods.sld import SLD
from snce.bench.methods.spm import SPM
from snce.bench.methods.steerers import ConceptSteerers
from snce.bench.methods.uce import UCE
from snce.bench.recipe import recipe
from snce.errors import SnceError
from snce.sae.formats import load_sae, sae_file
from snce.text.fingerprint import weights_fingerprint
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from snce.bench.methods.base import Knob, Method
    from snce.bench.suites.config import SuiteConfig
    from snce.erase.eraser import ConceptEraser
    from snce.sae.model import SparseAutoencoder
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class GivenEraser:
    """An eraser of the user's, as a method of the benchmark."""

    name: ClassVar[str] = "snce"
    knob: ClassVar[Knob | None] = None

    eraser: ConceptEraser = field(repr=False)

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> NeuronErasure:
        """Nothing is fitted."""
        return NeuronErasure(self.eraser)


@dataclass
class Studio:
    """What methods are built from. SAEs are loaded when a method asks for them."""

    pipe: Any
    config: SuiteConfig
    eraser: ConceptEraser | None
    progress: bool = False
    """Methods that train show how far they are."""
    others: tuple[str, ...] = ()
    """Classes of the suite that are not erased."""
    styles: bool = False
    """Whether all that is erased are styles."""
    steps: int = 50
    """Denoising steps."""

    @cached_property
    def sae(self) -> SparseAutoencoder:
        return self._text_sae(self.config.sae)

    @cached_property
    def position_sae(self) -> SparseAutoencoder:
        sae = self._text_sae(self.config.position_sae)
        if sae.config.support != "position":
            raise SnceError(
                f"the SAE in {self.config.position_sae} has a code per prompt; {', '.join(POSITION_CODED)} need one "
                "that codes each position by itself: make it with `snce train --support position --k 64`"
            )
        return sae

    def _text_sae(self, folder: Path | None) -> SparseAutoencoder:
        assert folder is not None
        sae, origin = load_sae(folder)
        origin.check(TextTower.from_pipeline(self.pipe))
        return sae

    @cached_property
    def unet_sae(self) -> UNetSAE:
        assert self.config.unet_sae is not None
        sae, origin = load_sae(self.config.unet_sae)
        if origin.fingerprint != weights_fingerprint(self.pipe.unet):
            raise SnceError(f"the SAE in {self.config.unet_sae} was trained inside another UNet than this model's")
        return UNetSAE(sae, origin.module, Sampling(**origin.training.get("sampling", {})))

    def ours(self) -> Method:
        if self.eraser is None:
            return SNCE(self.sae)
        self.eraser.check(TextTower.from_pipeline(self.pipe))
        return GivenEraser(self.eraser)

    def uce(self) -> UCE:
        """The authors preserve the other classes where there are such, else nothing."""
        return UCE(preserve=0, preserve_names=self.others)

    def rece(self) -> RECE:
        """As its authors edit: from the last token of the name on; objects and styles with another closeness."""
        return RECE(replace(self.uce(), tokens="all"), closeness=1e-3 if self.others else 0.1)

    def itd(self) -> InterpretThenDeactivate:
        sae = self.position_sae
        return InterpretThenDeactivate(sae, factor=-6.0, top=256) if self.styles else InterpretThenDeactivate(sae)

    def sld(self, preset: SLD) -> SLD:
        return replace(preset, warmup=self._of_fifty(preset.warmup))

    def safree(self) -> SAFREE:
        return SAFREE(limit=self._of_fifty(SAFREE.limit))

    def _of_fifty(self, published: int) -> int:
        """Steps that are published for schedules of 50."""
        return round(published * self.steps / 50)

    def made(self, names: Sequence[str]) -> dict[str, Method]:
        """The methods of these names.

        Raises:
            SnceError: an eraser or SAE that was made for another model, or is damaged.
        """
        return {name: ENTRIES[name].make(self) for name in names}


@dataclass(frozen=True)
class Entry:
    make: Callable[[Studio], Method]
    needs: tuple[str, ...] = ()
    """Options of `SuiteConfig` without which it cannot be made; one of them suffices."""
    fits: bool = True
    """Whether it needs concepts: prompts, not a name alone."""
    reads_text: bool = False
    """It is fitted on embeddings of text alone, and on the CPU: the code of neurons is written for that."""


ENTRIES: dict[str, Entry] = {
    BASE: Entry(lambda _: Nothing(), fits=False),
    "negative prompt": Entry(lambda _: NegativePrompt()),
    "SLD medium": Entry(lambda s: s.sld(SLD.medium())),
    "SLD strong": Entry(lambda s: s.sld(SLD.strong())),
    "SLD max": Entry(lambda s: s.sld(SLD.max())),
    "SAFREE": Entry(Studio.safree),
    "UCE": Entry(Studio.uce),
    "UCE (all tokens)": Entry(lambda s: replace(s.uce(), tokens="all")),
    "RECE": Entry(Studio.rece),
    "ESD-x": Entry(lambda s: ESD(progress=s.progress)),
    "concept ablation": Entry(lambda s: ConceptAblation(progress=s.progress)),
    "SPM": Entry(lambda s: SPM(progress=s.progress)),
    "LEACE": Entry(lambda _: Leace(), reads_text=True),
    "Concept Steerers": Entry(lambda s: ConceptSteerers(s.position_sae), ("position_sae",), reads_text=True),
    "ItD": Entry(Studio.itd, ("position_sae",), reads_text=True),
    "SAeUron": Entry(lambda s: SAeUron(s.unet_sae, progress=s.progress), ("unet_sae",)),
    "SNCE as in the paper": Entry(lambda s: PaperSNCE(s.position_sae), ("position_sae",), reads_text=True),
    OURS: Entry(Studio.ours, ("eraser", "sae"), reads_text=True),
    "SNCE (2 neurons)": Entry(lambda s: SNCE(s.sae, n=2), ("sae",), reads_text=True),
    "SNCE (4 neurons)": Entry(lambda s: SNCE(s.sae, n=4), ("sae",), reads_text=True),
    "SNCE (8 neurons)": Entry(lambda s: SNCE(s.sae, n=8), ("sae",), reads_text=True),
}
"""Every method by its name in the tables: those of the precision suite."""
POSITION_CODED = tuple(name for name, entry in ENTRIES.items() if "position_sae" in entry.needs)


def chosen_methods(config: SuiteConfig, concepts: Sequence[Concept]) -> tuple[list[str], list[str]]:
    """Names of the methods to run, the base model first; and, for "all", why others cannot.

    Raises:
        SnceError: an unknown method, or one that is asked for and cannot be made.
    """
    everything = config.methods.strip() == "all"
    asked = list(ENTRIES) if everything else [name.strip() for name in config.methods.split(",") if name.strip()]
    unknown = [name for name in asked if name not in ENTRIES]
    if unknown or not asked:
        wrong = f"unknown method {', '.join(map(repr, unknown))}" if unknown else "no method is named"
        raise SnceError(f"{wrong}; there are: {', '.join(map(repr, ENTRIES))}; or 'all' that can be made")
    lacking = {name: why for name in asked if (why := _lacking(name, config, concepts))}
    if lacking and not everything:
        name, why = next(iter(lacking.items()))
        raise SnceError(f"{name} {why}")
    return list(dict.fromkeys([BASE, *(n for n in asked if n not in lacking)])), [
        f"{name} is left out: it {why}" for name, why in lacking.items()
    ]


def _lacking(name: str, config: SuiteConfig, concepts: Sequence[Concept]) -> str:
    entry = ENTRIES[name]
    if entry.needs and all(getattr(config, option) is None for option in entry.needs):
        return f"needs {' or '.join('--' + option.replace('_', '-') for option in entry.needs)}"
    if entry.fits and not concepts and not (name == OURS and config.eraser):
        return "needs a concept's prompts: --concepts FILE.yaml, or a class of the suite"
    return ""


def inputs_of(name: str, method: Method, config: SuiteConfig, concepts: Sequence[Concept]) -> str:
    """A short hash of what a method is made from: settings, concepts and files. Parts of different inputs are not
    mixed."""
    entry = ENTRIES[name]
    given = name == OURS and config.eraser is not None
    digest = hashlib.sha256(recipe(method).encode())
    if entry.fits and not given:
        for c in concepts:
            digest.update(repr((c.name, c.targets, c.neutrals)).encode())
    for option in ("eraser",) if given else entry.needs:
        given_path: str | Path | None = getattr(config, option)
        if given_path is not None:
            path = Path(given_path)
            digest.update(_bytes(path if option == "eraser" else sae_file(path)))
    return digest.hexdigest()[:16]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SnceError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def fitting(pipe: Any, entry: Entry) -> Iterator[None]:
    """Inside the block the text encoder is where the method is fitted."""
    home = pipe.text_encoder.device
    if entry.reads_text:
        pipe.text_encoder.to("cpu")
    try:
        yield
    finally:
        pipe.text_encoder.to(home)
