"""SAEs of other libraries: what their files have in common, and how such an SAE becomes one of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snce.errors import SnceError
from snce.sae.formats import SAEOrigin, check_tensors
from snce.sae.model import SAEConfig, SparseAutoencoder
from snce.sae.thresholds import calibrate_thresholds
from snce.sae.train import kind_mean, measure
from snce.storage import read_tensors, write_tensors, write_text
from snce.text.positions import BEGIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snce.text.harvest import Embeddings
    from snce.text.towers import TextTower

CONFIG = "cfg.json"
"""Both libraries describe an SAE in a file of this name, beside its tensors."""


@dataclass(frozen=True, eq=False)
class Weights:
    """An SAE that codes each position by itself, in the units of the embeddings:

    pre = W_enc (x - b_dec) + b_enc
    z = TopK(ReLU(pre)), or pre where it passes its threshold
    x_hat = W_dec^T z + b_dec
    """

    W_enc: Tensor
    """[m, d]"""
    b_enc: Tensor
    """[m]"""
    W_dec: Tensor
    """[m, d]"""
    b_dec: Tensor
    """[d]"""
    threshold: Tensor | None
    """[m]; None where the top k decide."""
    k: int | None
    """None where thresholds decide."""


def weights_of(sae: SparseAutoencoder) -> Weights:
    """An SAE of ours in the units of the embeddings: activations are `sae.scale` times ours, rows of W_dec the same.

    Both threshold and k are given; the caller drops one.
    """
    return Weights(
        sae.W_enc.detach(),
        sae.b_enc.detach() * sae.scale,
        sae.W_dec.detach(),
        sae.b_dec.detach(),
        sae.threshold * sae.scale,
        sae.config.k,
    )


@torch.no_grad()
def adopt(
    weights: Weights, tower: TextTower, data: Embeddings, training: Mapping[str, Any]
) -> tuple[SparseAutoencoder, SAEOrigin]:
    """The SAE of `weights` as one of ours, with thresholds, the unit of its activations and metrics taken on `data`.

    Its activations are those of the other library divided by `scale`, its reconstructions the same. Positions that hold
    begin-of-text are silent, as in all of our SAEs.

    Args:
        tower: the text encoder that it was trained on, as its user says: foreign files do not know.
        data: embeddings of prompts of the kind that the SAE was trained on, harvested from that tower.
        training: what is known about its making, for its origin.

    Raises:
        SnceError: an SAE of another width than the tower's, or embeddings without content.
    """
    latents, width = weights.W_enc.shape
    if width != tower.width or data.x.shape[-1] != width:
        raise SnceError(
            f"the SAE reads embeddings of width {width}; {tower.name}.{tower.path} of the model given has width "
            f"{tower.width}: name the model that the SAE was trained on"
        )
    if not bool((data.kinds != BEGIN).any()):
        raise SnceError("the prompts have no token but begin-of-text; give prompts with words in them")
    jump = weights.threshold is not None
    with torch.random.fork_rng(devices=[]):  # initial weights, overwritten below
        sae = SparseAutoencoder(
            SAEConfig(width, latents, weights.k or latents, "position", "jumprelu" if jump else "topk")
        )
    sae.W_enc.copy_(weights.W_enc)
    sae.W_dec.copy_(weights.W_dec)
    sae.b_dec.copy_(weights.b_dec)
    sae.scale.copy_(_root_mean_square(data, sae.b_dec))
    sae.b_enc.copy_(weights.b_enc / sae.scale)
    sae.eval().requires_grad_(False)
    everything = torch.arange(len(data))
    if weights.threshold is not None:
        sae.threshold.copy_(weights.threshold / sae.scale)
        metrics = measure(sae, data, everything, everything)._asdict()
        sae.config = replace(sae.config, k=min(latents, max(1, round(metrics["l0"]))))
    else:
        agreement = calibrate_thresholds(sae, data)
        metrics = {**measure(sae, data, everything, everything)._asdict(), "threshold_f1": agreement.f1}
    origin = SAEOrigin(tower.fingerprint, tower.name, tower.path, tower.pipeline, dict(training), metrics)
    sae.origin = origin
    return sae, origin


def _root_mean_square(data: Embeddings, b_dec: Tensor) -> Tensor:
    """Root mean square norm of the centred embeddings; words, end and padding weigh alike, as in training."""
    squares = [(x.float() - b_dec).square().sum(-1) for x in data.x.split(128)]
    return kind_mean(torch.cat(squares), data.kinds).sqrt().clamp_min(1e-6)


# -- files -------------------------------------------------------------------------------------------------------------


def write_folder(folder: str | Path, file: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write the tensors to folder/file and the description beside them.

    The description comes last, and an old one goes first: tensors without it are no SAE for anyone.

    Raises:
        SnceError: a folder that cannot be written.
    """
    folder = Path(folder)
    try:
        (folder / CONFIG).unlink(missing_ok=True)
    except OSError as error:
        raise SnceError(f"cannot write {folder / CONFIG}: {error.strerror or error}") from error
    write_tensors(folder / file, tensors, {"format": "pt"})
    write_text(folder / CONFIG, json.dumps(config, indent=2))


class Description:
    """The cfg.json of a folder: entries are checked as they are read, and complaints name the file."""

    def __init__(self, folder: str | Path, library: str) -> None:
        """Raises:
        SnceError: no such file, or one that is damaged.
        """
        self.path = Path(folder) / CONFIG
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SnceError(
                f"no {library} SAE in {folder}: cannot read {self.path} ({error.strerror or error}); name the folder "
                "that holds it"
            ) from error
        except ValueError as error:
            raise SnceError(f"{self.path} is damaged: {error}") from error
        if not isinstance(entries, dict):
            raise SnceError(f"{self.path} is damaged: it holds no description of an SAE")
        self.entries: dict[str, Any] = entries

    def number(self, name: str) -> int:
        """A whole number above zero.

        Raises:
            SnceError: it is missing or something else.
        """
        value = self.entries.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SnceError(f"{self.path}: {name!r} is {value!r} where a whole number above zero was expected")
        return value

    def refuse_unless(self, name: str, expected: Any, why: str) -> None:
        """Raise SnceError if an entry is there and differs from `expected`."""
        value = self.entries.get(name, expected)
        if value != expected:
            raise SnceError(f"{self.path}: {name} is {value!r}: {why}")

    def check_exporter(self, told: Any, tower: TextTower) -> None:
        """`told` is what an export of ours says about its text encoder: raise SnceError if it was another."""
        if isinstance(told, dict) and isinstance(told.get("fingerprint"), str):
            fingerprint, *place = (str(told.get(name, "")) for name in ("fingerprint", "tower", "module", "pipeline"))
            SAEOrigin(fingerprint, place[0], place[1], place[2]).check(tower)


def about_origin(sae: SparseAutoencoder, origin: SAEOrigin) -> dict[str, Any]:
    """What an export says about where it comes from, for `Description.check_exporter` and for readers."""
    return {
        "fingerprint": origin.fingerprint,
        "tower": origin.tower,
        "module": origin.module,
        "pipeline": origin.pipeline,
        "support": sae.config.support,
        "training": origin.training,
    }


def read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of a safetensors file as float32, after a check of their names and shapes.

    Raises:
        SnceError: no such file, a truncated one, tensors that are missing, unknown, damaged, or of another shape.
    """
    tensors, _ = read_tensors(path, None)
    check_tensors(path, tensors, shapes)
    unknown = sorted(set(tensors) - set(shapes))
    if unknown:
        raise SnceError(f"{path} holds tensors that its cfg.json does not account for: {', '.join(unknown[:5])}")
    return {name: tensors[name].float() for name in shapes}
