"""Erase a concept from a text-to-image model by switching off one neuron.

The public names below are imported when they are first used: `import snce` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snce.erase.bake import bake
    from snce.erase.build import build_eraser
    from snce.erase.eraser import ConceptEraser
    from snce.errors import SnceError
    from snce.neurons.find import find_many, find_neurons
    from snce.pipelines import load_pipeline
    from snce.sae.config import SAEConfig, TrainConfig
    from snce.sae.formats import load_sae, save_sae
    from snce.sae.model import SparseAutoencoder
    from snce.sae.train import train_sae
    from snce.text.harvest import harvest
    from snce.text.prompts import Concept
    from snce.text.towers import TextTower

    __version__: str

__all__ = [
    "Concept",
    "ConceptEraser",
    "SAEConfig",
    "SnceError",
    "SparseAutoencoder",
    "TextTower",
    "TrainConfig",
    "__version__",
    "bake",
    "build_eraser",
    "find_many",
    "find_neurons",
    "harvest",
    "load_pipeline",
    "load_sae",
    "save_sae",
    "train_sae",
]

_HOMES = {
    "Concept": "snce.text.prompts",
    "ConceptEraser": "snce.erase.eraser",
    "SAEConfig": "snce.sae.config",
    "SnceError": "snce.errors",
    "SparseAutoencoder": "snce.sae.model",
    "TextTower": "snce.text.towers",
    "TrainConfig": "snce.sae.config",
    "bake": "snce.erase.bake",
    "build_eraser": "snce.erase.build",
    "find_many": "snce.neurons.find",
    "find_neurons": "snce.neurons.find",
    "harvest": "snce.text.harvest",
    "load_pipeline": "snce.pipelines",
    "load_sae": "snce.sae.formats",
    "save_sae": "snce.sae.formats",
    "train_sae": "snce.sae.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("snce")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'snce' has no attribute {name!r}")
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
