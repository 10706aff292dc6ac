"""An SAE on disk: one safetensors file in a folder, with where it comes from in its metadata. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.errors import SnceError
from snce.sae.config import SAEConfig
from snce.sae.model import SparseAutoencoder
from snce.sae.origin import SAEOrigin
from snce.storage import is_finite, parse_json, read_metadata, read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "snce-sae-1"
FILE = "sae.safetensors"


def sae_file(folder: str | Path) -> Path:
    """Where the SAE of a folder lies; the path of a safetensors file stands for itself."""
    path = Path(folder)
    return path if path.suffix == ".safetensors" else path / FILE


def holds_foreign_sae(folder: str | Path) -> bool:
    """Whether it is the folder of another library's SAE, or the weights in it: they describe it in a cfg.json, ours
    describe themselves."""
    return _lies_with_a_foreign(sae_file(folder))


def _lies_with_a_foreign(file: Path) -> bool:
    """Whether another library describes an SAE beside `file`, which is none of ours or not there."""
    if not (file.parent / "cfg.json").is_file():
        return False
    return not file.is_file() or read_metadata(file).get("format") != FORMAT


def _refuse_foreign(file: Path) -> None:
    """Raise SnceError, with what to do, if another library's SAE is where one of ours in `file` should be."""
    if _lies_with_a_foreign(file):
        raise SnceError(
            f"{file.parent} holds an SAE of another library; bring it in with `snce convert {file.parent} OUT --to snce"
            " --model MODEL`"
        )


def saes_in(folder: str | Path) -> list[Path]:
    """The SAEs that `snce train` left: one in the folder, or one in a folder for each tower of the pipeline.

    Raises:
        SnceError: there is none, or one of another library.
    """
    path = sae_file(folder)
    _refuse_foreign(path)
    found = [path] if path.exists() else sorted(Path(folder).glob(f"*/{FILE}"))
    # other libraries keep several in folders side by side, too
    for file in found or sorted(cfg.with_name(FILE) for cfg in Path(folder).glob("*/cfg.json")):
        _refuse_foreign(file)
    if not found:
        raise SnceError(f"no SAE in {folder}: {path} does not exist; make one with `snce train`")
    return found


def save_sae(sae: SparseAutoencoder, folder: str | Path, metadata: SAEOrigin) -> None:
    """Write folder/sae.safetensors, whole or not at all.

    Raises:
        SnceError: a folder that cannot be written.
    """
    strings = {
        "format": FORMAT,
        "config": json.dumps(sae.describe()),
        "fingerprint": metadata.fingerprint,
        "tower": metadata.tower,
        "module": metadata.module,
        "pipeline": metadata.pipeline,
        "training": json.dumps(metadata.training),
        "metrics": json.dumps(metadata.metrics),
    }
    write_tensors(sae_file(folder), sae.state_dict(), strings)


def load_sae(folder: str | Path) -> tuple[SparseAutoencoder, SAEOrigin]:
    """Read what `save_sae` wrote: the SAE in evaluation mode, without gradients, and where it comes from.

    Raises:
        SnceError: no such file; a truncated or foreign one; tensors that do not fit its configuration; NaN or infinity.
    """
    path = sae_file(folder)
    _refuse_foreign(path)
    if not path.exists():
        raise SnceError(f"no SAE in {folder}: {path} does not exist; make one with `snce train`")
    tensors, metadata = read_tensors(path, FORMAT)
    try:
        config = SAEConfig(**parse_json(metadata["config"]))
        _check_choices(config)
        with torch.device("meta"):  # shapes only: a forged configuration must not allocate memory
            sae = SparseAutoencoder(config)
        shapes = {name: tuple(t.shape) for name, t in sae.state_dict().items()}
        check_tensors(path, tensors, shapes)
        if not tensors["scale"] > 0:
            raise SnceError(f"{path}: 'scale' is {float(tensors['scale'])}, which no embeddings are measured in")
        origin = SAEOrigin(
            fingerprint=metadata["fingerprint"],
            tower=metadata["tower"],
            module=metadata["module"],
            pipeline=metadata["pipeline"],
            training=dict(parse_json(metadata["training"])),
            metrics={str(k): float(v) for k, v in parse_json(metadata["metrics"]).items()},
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        if isinstance(error, SnceError):
            raise SnceError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
        raise SnceError(f"{path} has damaged metadata: {' '.join(str(error).split())[:200]}") from error
    # copied: whoever overwrites the file in place would change an SAE that is in use
    copies = {name: tensors[name].to(torch.float32, copy=True) for name in shapes}
    sae.load_state_dict(copies, assign=True)
    sae.origin = origin
    return sae.eval().requires_grad_(False), origin


def _check_choices(config: SAEConfig) -> None:
    for name in ("width", "latents", "k"):
        if type(getattr(config, name)) is not int:
            raise SnceError(f"the SAE's {name} is {getattr(config, name)!r}, no whole number")
    for name, choices in (("support", ("prompt", "position")), ("activation", ("topk", "batchtopk", "jumprelu"))):
        if getattr(config, name) not in choices:
            raise SnceError(f"the SAE's {name} is {getattr(config, name)!r}; this version knows {', '.join(choices)}")


def check_tensors(path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise SnceError unless each tensor in `shapes` is there, of that shape, in finite floating-point numbers."""
    for name, shape in shapes.items():
        if name not in tensors:
            raise SnceError(f"{path} lacks the tensor {name!r}")
        if tuple(tensors[name].shape) != shape:
            raise SnceError(f"{path}: {name!r} has shape {list(tensors[name].shape)} where {list(shape)} was expected")
        if not tensors[name].is_floating_point() or not is_finite(tensors[name]):
            raise SnceError(f"{path}: {name!r} holds NaN, infinity, or no floating-point numbers")
