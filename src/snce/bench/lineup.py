"""The methods that are compared, and what they share: Emblem, its judge, and SAEs that are trained once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from snce.bench.methods.ablation import ConceptAblation
from snce.bench.methods.esd import ESD
from snce.bench.methods.itd import InterpretThenDeactivate
from snce.bench.methods.leace import Leace
from snce.bench.methods.negative_prompt import NegativePrompt
from snce.bench.methods.neurons import SNCE, PaperSNCE
from snce.bench.methods.nothing import Nothing
from snce.bench.methods.rece import RECE
from snce.bench.methods.saeuron import SAeUron
from snce.bench.methods.saeuron_sae import TRAINING as UNET_TRAINING
from snce.bench.methods.saeuron_sae import Sampling, UNetSAE, train_unet_sae
from snce.bench.methods.safree import SAFREE
from snce.bench.methods.sld import SLD
from snce.bench.methods.spm import SPM
from snce.bench.methods.steerers import ConceptSteerers
from snce.bench.methods.uce import UCE
from snce.demo.laboratory import CAPTIONS, SAE, TRAINING, Laboratory
from snce.emblem.concepts import counterpart
from snce.emblem.corpus import captions_for_training
from snce.emblem.load import GUIDANCE, STEPS
from snce.sae.config import SAEConfig
from snce.sae.formats import load_sae, save_sae
from snce.sae.origin import SAEOrigin
from snce.storage import locked
from snce.text.fingerprint import weights_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from snce.bench.methods.base import Method
    from snce.sae.config import TrainConfig
    from snce.sae.model import SparseAutoencoder

UNET_CAPTIONS = 640
BASE = "none"
OURS = "SNCE"


@dataclass
class Workshop:
    """What methods are built from. `folder` keeps the SAEs; one that another process trains just now is waited for."""

    folder: Path
    progress: bool = False

    @cached_property
    def lab(self) -> Laboratory:
        return Laboratory(progress=self.progress)

    @cached_property
    def sae(self) -> SparseAutoencoder:
        """Ours: the demo's."""
        return self.text_sae("sae", SAE)

    @cached_property
    def large_sae(self) -> SparseAutoencoder:
        """With many active latents, as ItD has it: where few are active, its gate cannot tell prompts apart."""
        return self.text_sae("large-sae", SAEConfig.plain(self.lab.tower.width, latents=4096, k=64))

    @cached_property
    def plain_sae(self) -> SparseAutoencoder:
        """A code per position, as rivals have it and as we take the paper to mean."""
        return self.text_sae("plain-sae", SAEConfig.plain(self.lab.tower.width, latents=2048, k=32))

    def text_sae(
        self, name: str, config: SAEConfig, training: TrainConfig = TRAINING, captions: int = CAPTIONS
    ) -> SparseAutoencoder:
        """The SAE of this name; trained on so many captions if the folder has none that was trained so."""
        path, tower = self.folder / f"{name}.safetensors", self.lab.tower
        told = how_trained(training, captions, config)
        with locked(path):
            if path.exists():
                sae, origin = load_sae(path)
                origin.check(tower)
                if origin.training == told:
                    return sae
            lab = self.lab if captions == self.lab.captions else Laboratory(captions, self.progress)
            trained = lab.train(config, training)
            save_sae(trained.sae, path, SAEOrigin(tower.fingerprint, tower.name, tower.path, tower.pipeline, told))
            return trained.sae

    @cached_property
    def unet_sae(self) -> UNetSAE:
        """On the UNet, for SAeUron."""
        path, pipe, sampling = self.folder / "unet-sae.safetensors", self.lab.pipe, Sampling(STEPS, GUIDANCE)
        fingerprint, told = weights_fingerprint(pipe.unet), how_trained(UNET_TRAINING, UNET_CAPTIONS)
        with locked(path):
            if path.exists():
                sae, origin = load_sae(path)
                if (origin.fingerprint, origin.training) == (fingerprint, told):
                    return UNetSAE(sae, origin.module, sampling)
            captions = captions_for_training(UNET_CAPTIONS, seed=1)
            trained = train_unet_sae(pipe, captions, sampling=sampling, training=UNET_TRAINING, progress=self.progress)
            save_sae(trained.sae, path, SAEOrigin(fingerprint, "unet", trained.block, type(pipe).__name__, told))
            return trained


def how_trained(training: TrainConfig, captions: int, config: SAEConfig | None = None) -> dict[str, Any]:
    """What an SAE's file tells of it, so that one that was trained otherwise is not taken for it."""
    told = {"captions": captions, "training": asdict(training), "sae": asdict(config) if config else {}}
    return json.loads(json.dumps(told))


METHODS: dict[str, Callable[[Workshop], Method]] = {
    BASE: lambda _: Nothing(),
    "negative prompt": lambda _: NegativePrompt(),
    "SLD medium": lambda _: replace(SLD.medium(), warmup=4),  # the published warm-ups are for 50 steps, not for 20
    "SLD strong": lambda _: replace(SLD.strong(), warmup=3),
    "SLD max": lambda _: SLD.max(),
    "SAFREE": lambda _: SAFREE(midpoint=0.0, limit=4),
    "UCE": lambda _: UCE(),
    "UCE (all tokens)": lambda _: UCE(tokens="all"),
    # as the authors edit and erase objects, after UCE with the weight that tuning on one concept gives it
    "RECE": lambda _: RECE(UCE(tokens="all", erase_weight=10_000.0), closeness=1e-3),
    "ESD-x": lambda _: ESD(steps=200, batch=4, sampling_steps=10, guidance=GUIDANCE),
    "concept ablation": lambda _: ConceptAblation(
        steps=100, images=64, sampling_steps=10, guidance=GUIDANCE, anchor=counterpart
    ),
    "SPM": lambda _: SPM(steps=100, lr=2e-3, batch=4, sampling_steps=10, guidance=GUIDANCE),
    "LEACE": lambda _: Leace(),
    "Concept Steerers": lambda w: ConceptSteerers(w.plain_sae),
    "ItD": lambda w: InterpretThenDeactivate(w.large_sae),
    "SAeUron": lambda w: SAeUron(w.unet_sae, features=128),  # the published two hardly carry an icon
    "SNCE as in the paper": lambda w: PaperSNCE(w.plain_sae),
    OURS: lambda w: SNCE(w.sae),
    "SNCE (2 neurons)": lambda w: SNCE(w.sae, n=2),
    "SNCE (4 neurons)": lambda w: SNCE(w.sae, n=4),
    "SNCE (8 neurons)": lambda w: SNCE(w.sae, n=8),
}
"""Makers of every method by its name in the tables. What differs from the published settings does so because Emblem is
small: fewer and larger training steps, and warm-ups as a share of its 20 steps."""

FOR_SETS: dict[str, Callable[[Workshop], Method]] = {
    # after UCE with the weight that tuning on a set gives it
    "RECE": lambda _: RECE(UCE(tokens="all", erase_weight=10.0), closeness=1e-3),
}
"""Makers of methods that begin otherwise where several concepts are erased together."""


def setting_of(method: Method) -> float:
    """Of the method's knob; NaN where it has none."""
    value: Any = getattr(method, method.knob.field) if method.knob else None
    return float("nan") if value is None else float(value)


def with_setting(method: Method, value: float) -> Method:
    """The same method with its knob turned to `value`."""
    if method.knob is None:
        return method
    field = method.knob.field
    cast = int if isinstance(getattr(method, field), int) else float
    return replace(method, **{field: cast(value)})  # type: ignore[type-var]
