"""CLIP score and FID, both as torchmetrics computes them."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from snce.errors import SnceError, first_line
from snce.storage import read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image

    from snce.bench.suites.clip import Clip

_KIND = "snce-reference-1"
_STATISTICS = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def text_scores(clip: Clip, images: Sequence[Image], texts: Sequence[str]) -> list[float]:
    """The CLIP score of each picture with its text: max(100 cos, 0) (Hessel et al., arXiv 2104.08718, without its
    factor 2.5).

    Raises:
        SnceError: torchmetrics is not installed.
    """
    clip_score = _torchmetrics("torchmetrics.functional.multimodal").clip_score
    pairs = zip(images, texts, strict=True)
    return [float(clip_score(uint8(image), text, clip.for_torchmetrics)) for image, text in pairs]


def describe_text_scores(clip: Clip) -> dict[str, Any]:
    _torchmetrics("torchmetrics")
    library = f"torchmetrics {metadata.version('torchmetrics')}"
    return {"library": library, "model": clip.name, "weights": clip.weights}


class Inception:
    """Features for FID.

    Args:
        extractor: uint8 [n, 3, h, w] -> features [n, width]; None for Inception v3 with FID's own weights, which
            torch-fidelity brings (the first use downloads them).

    Raises:
        SnceError: torchmetrics or torch-fidelity is not installed, or the weights are not to be had.
    """

    def __init__(self, extractor: nn.Module | None = None, device: str = "cpu") -> None:
        self._fid = _torchmetrics("torchmetrics.image.fid").FrechetInceptionDistance
        self.name = "Inception v3 of torch-fidelity, 2048 features" if extractor is None else type(extractor).__name__
        self.device = device
        try:
            self._extractor = (self._fid(feature=2048).inception if extractor is None else extractor).to(device).eval()
        except ModuleNotFoundError as error:
            raise SnceError(
                "FID needs torch-fidelity (with torchvision) for Inception's weights: pip install 'snce[suites]'; or "
                "measure without it: --measures clip"
            ) from error
        except Exception as error:  # a download fails in many ways
            raise SnceError(f"cannot load the Inception weights of FID: {first_line(error)}") from error

    @torch.no_grad()
    def features(self, images: Sequence[Image]) -> np.ndarray:
        """float16 [n, width]. One by one: pictures may have different sizes."""
        rows = [self._extractor(uint8(image)[None].to(self.device)).reshape(-1) for image in images]
        return torch.stack(rows).half().cpu().numpy()

    def describe(self, reference: Path | None) -> dict[str, Any]:
        return {
            "library": f"torchmetrics {metadata.version('torchmetrics')}",
            "features": self.name,
            "against": "the base model's pictures" if reference is None else str(reference),
        }

    def reference(self, folder: Path, cache: Path) -> dict[str, Tensor]:
        """Statistics of the pictures of a folder, for `distance`; computed once, kept in the file `cache`.

        Raises:
            SnceError: fewer than two pictures, or one that is damaged.
        """
        from PIL import Image, UnidentifiedImageError

        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in PICTURES) if folder.is_dir() else []
        if len(files) < 2:
            raise SnceError(f"--reference {folder}: {len(files)} pictures; FID compares two at least, better thousands")
        stamp = f"{self.name} {folder.resolve()} {len(files)} {sum(f.stat().st_size for f in files)}"
        if cache.exists():
            tensors, told = read_tensors(cache, _KIND)
            if told.get("stamp") == stamp:
                return tensors
        metric = None
        for file in files:
            try:
                row = self.features([Image.open(file)])
            except (UnidentifiedImageError, OSError) as error:
                raise SnceError(f"--reference {folder}: {file.name} is no picture, or damaged: {error}") from error
            metric = metric or self._fid(feature=_Given(row.shape[1]))
            metric.update(torch.from_numpy(row).double(), real=True)
        tensors = {name: getattr(metric, name) for name in _STATISTICS}
        write_tensors(cache, tensors, {"format": _KIND, "stamp": stamp})
        return tensors

    def distance(self, real: np.ndarray | dict[str, Tensor], drawn: np.ndarray) -> float:
        """FID of features [n, width] against others [m, width], or against the statistics of `reference`; NaN for
        fewer than two pictures."""
        if len(drawn) < 2 or (not isinstance(real, dict) and len(real) < 2):
            return float("nan")
        metric = self._fid(feature=_Given(drawn.shape[1]))
        if isinstance(real, dict):
            for name, value in real.items():
                setattr(metric, name, value.clone())
        else:
            metric.update(torch.from_numpy(real).double(), real=True)
        metric.update(torch.from_numpy(drawn).double(), real=False)
        return float(metric.compute())


class _Given(nn.Module):
    """In the place of a network: the features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def uint8(image: Image) -> Tensor:
    """[3, h, w]."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _torchmetrics(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise SnceError("CLIP score and FID are computed by torchmetrics: pip install 'snce[suites]'") from error
