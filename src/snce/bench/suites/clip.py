"""A CLIP model: the same for the CLIP score and for classification by words."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snce.errors import SnceError, first_line
from snce.text.fingerprint import weights_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Clip:
    """A model with its tokenizer and its image processor."""

    name: str
    model: Any
    processor: Any

    @cached_property
    def weights(self) -> str:
        """Fingerprint: a folder may get others under the same name."""
        return weights_fingerprint(self.model)

    @torch.no_grad()
    def images(self, images: Sequence[Image]) -> Tensor:
        """Directions of the pictures' embeddings, [n, d]."""
        return torch.nn.functional.normalize(self._image_features(self.pixels(images)), dim=1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Directions of the texts' embeddings, [n, d]."""
        tokens = self.tokens(texts)
        return torch.nn.functional.normalize(self._text_features(**tokens), dim=1)

    def pixels(self, images: Sequence[Any]) -> Tensor:
        """Pictures (PIL, or uint8 [3, h, w]) as the model wants them, [n, 3, side, side]."""
        made = self.processor.image_processor(images=[_rgb(image) for image in images], return_tensors="pt")
        return made["pixel_values"].to(self.model.device)

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Long texts are cut as CLIP was trained to see them: with their end-of-text."""
        longest = self.model.config.text_config.max_position_embeddings
        made = self.processor.tokenizer(list(texts), padding=True, truncation=True, max_length=longest,
                                        return_tensors="pt")  # fmt: skip
        return {name: made[name].to(self.model.device) for name in ("input_ids", "attention_mask")}

    def _image_features(self, pixels: Tensor) -> Tensor:
        return _tensor(self.model.get_image_features(pixel_values=pixels))

    def _text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return _tensor(self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask))

    def for_torchmetrics(self) -> tuple[Any, Any]:
        """(model, processor) with the calls that torchmetrics makes: transformers 5 answers some of them otherwise."""
        return _Model(self), _processor(self)


class _Model:
    def __init__(self, clip: Clip) -> None:
        self.clip, self.config = clip, clip.model.config

    def to(self, _device: Any) -> _Model:
        return self  # where the model is, it stays

    @torch.no_grad()
    def get_image_features(self, pixels: Tensor) -> Tensor:
        return self.clip._image_features(pixels.to(self.clip.model.device))

    @torch.no_grad()
    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        device = self.clip.model.device
        return self.clip._text_features(input_ids.to(device), attention_mask.to(device))


def _processor(clip: Clip) -> Any:
    def process(text: Any = None, images: Any = None, **_options: Any) -> dict[str, Tensor]:
        if images is not None:
            return {"pixel_values": clip.pixels(images)}
        return clip.tokens(text)

    return process


def _tensor(features: Any) -> Tensor:
    return (features if isinstance(features, Tensor) else features.pooler_output).float()


def _rgb(image: Any) -> Any:
    return image if isinstance(image, Tensor) else image.convert("RGB")


@lru_cache(maxsize=2)
def load_clip(name: str, device: str = "cpu") -> Clip:
    """A CLIP model of a folder or the hub, from safetensors. Score and classifiers share one.

    Raises:
        SnceError: no such model, or it is none of CLIP's kind.
    """
    from transformers import CLIPModel, CLIPProcessor

    try:
        with quietly():
            model: Any = CLIPModel.from_pretrained(name, use_safetensors=True)
            processor = CLIPProcessor.from_pretrained(name)
    # a missing or damaged file surfaces as nearly any exception of transformers, safetensors or the hub
    except Exception as error:
        raise SnceError(f"cannot load the CLIP model {name!r}: {first_line(error)}") from error
    return Clip(name, model.to(device).eval().requires_grad_(False), processor)


@contextmanager
def quietly() -> Iterator[None]:
    """Models are loaded without bars, and without the notice that image processors lack torchvision: those that do
    without it give the same."""
    from transformers.utils import logging

    from snce.diffusers_folder import without_torchvision_notice

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with without_torchvision_notice():
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
