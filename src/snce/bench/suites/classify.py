"""Which class a picture shows: by an image classifier, or by CLIP and the classes' names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch

from snce.bench.suites.clip import Clip, load_clip, quietly
from snce.errors import SnceError, first_line
from snce.text.fingerprint import weights_fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

RESNET = "microsoft/resnet-50"
TEMPLATES = {"object": "a picture of {}", "style": "a picture in {} style"}
"""In what words CLIP is asked."""


class Classifier(Protocol):
    def predict(self, images: Sequence[Image]) -> list[str]:
        """The class of each picture; a class of the classifier's own where it is none of the suite's."""
        ...

    def describe(self) -> dict[str, Any]: ...


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """A `transformers` image classifier: the best of *all* its classes, as ResNet-50 is used in the field."""

    name: str
    model: Any
    processor: Any
    labels: tuple[str, ...]
    own: dict[int, str]
    """The suite's class of each of the classifier's that is one."""

    @classmethod
    def of(cls, name: str, model: Any, processor: Any, labels: tuple[str, ...]) -> ImageClassifier:
        """Match the suite's classes with the classifier's, which may list synonyms: "church, church building".

        Raises:
            SnceError: a class that the classifier does not know.
        """
        own: dict[int, str] = {}
        for label in labels:
            ids = [i for i, text in model.config.id2label.items() if label.lower() in _synonyms(text)]
            if not ids:
                raise SnceError(f"the classifier {name!r} has no class {label!r}: choose another, or a CLIP model")
            own |= dict.fromkeys(ids, label)
        return cls(name, model, processor, labels, own)

    @torch.no_grad()
    def predict(self, images: Sequence[Image]) -> list[str]:
        pixels = self.processor(images=[i.convert("RGB") for i in images], return_tensors="pt")["pixel_values"]
        best = self.model(pixels.to(self.model.device)).logits.argmax(1).tolist()
        return [self.own.get(i, str(self.model.config.id2label[i])) for i in best]

    def describe(self) -> dict[str, Any]:
        how = f"top-1 of {len(self.model.config.id2label)} classes"
        return {"classifier": self.name, "weights": self.weights, "how": how}

    @cached_property
    def weights(self) -> str:
        return weights_fingerprint(self.model)


def _synonyms(text: str) -> set[str]:
    return {part.strip().lower().replace("_", " ") for part in str(text).split(",")}


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """The class whose description CLIP finds nearest to the picture."""

    clip: Clip
    labels: tuple[str, ...]
    template: str

    @cached_property
    def _texts(self) -> Tensor:
        return self.clip.texts([self.template.format(label) for label in self.labels])

    def predict(self, images: Sequence[Image]) -> list[str]:
        best = (self.clip.images(images) @ self._texts.T).argmax(1).tolist()
        return [self.labels[i] for i in best]

    def describe(self) -> dict[str, Any]:
        how = f"CLIP, nearest of {len(self.labels)} texts {self.template!r}"
        return {"classifier": self.clip.name, "weights": self.clip.weights, "how": how}


def load_classifier(name: str, labels: tuple[str, ...], kind: str, device: str = "cpu") -> Classifier:
    """The classifier of a folder or the hub; a CLIP model classifies by words.

    Args:
        kind: "object" or "style".

    Raises:
        SnceError: no such model, one that does not classify, or one that lacks a class.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    try:
        with quietly():
            if AutoConfig.from_pretrained(name).model_type == "clip":
                return ZeroShot(load_clip(name, device), labels, TEMPLATES[kind])
            model = AutoModelForImageClassification.from_pretrained(name, use_safetensors=True)
            processor = AutoImageProcessor.from_pretrained(name)
    except SnceError:
        raise
    # a missing or damaged file surfaces as nearly any exception of transformers, safetensors or the hub
    except Exception as error:
        raise SnceError(f"cannot load the classifier {name!r}: {first_line(error)}") from error
    return ImageClassifier.of(name, model.to(device).eval().requires_grad_(False), processor, labels)
