"""SAEs as eai-sparsify keeps them: a folder per hookpoint with cfg.json and sae.safetensors.

sparsify knows one activation, the k strongest latents of each token position. A position code of ours, with TopK or
BatchTopK, becomes one with the same activations and reconstructions as `SparseAutoencoder.encode` in evaluation mode. A
prompt code and a jumprelu SAE choose otherwise: they are refused (`snce.sae.saelens` takes both).

Our `scale` is folded in, so that decoder rows keep their unit norm, which sparsify restores in every step of further
training (`normalize_decoder`): its activations are ours times `sae.scale`. Begin-of-text is silent in our SAEs and was
never trained on; sparsify codes whatever it is given: leave position 0 out. Its `SparseCoder` takes rows [n, d].
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from snce.errors import SnceError
from snce.sae.folders import CONFIG, Description, about_origin, read_weights, write_folder
from snce.sae.foreign import Weights, adopt, weights_of
from snce.sae.saelens import refuse_what_is_no_topk

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder
    from snce.sae.origin import SAEOrigin
    from snce.text.harvest import Embeddings
    from snce.text.towers import TextTower

FILE = "sae.safetensors"


def save_sparsify(sae: SparseAutoencoder, folder: str | Path, origin: SAEOrigin) -> None:
    """Write folder/cfg.json and folder/sae.safetensors, for `sparsify.SparseCoder.load_from_disk(folder)`.

    Args:
        folder: of the hookpoint. Named so inside a run's folder, `SparseCoder.load_many(run, local=True)` finds it.

    Raises:
        SnceError: a prompt code or a jumprelu SAE, which sparsify cannot represent; a folder that cannot be written.
    """
    refuse_what_is_no_topk(sae, "sparsify")
    config, weights = sae.config, weights_of(sae)
    norms = weights.W_dec.norm(dim=1)
    tensors = {
        "encoder.weight": weights.W_enc,
        "encoder.bias": weights.b_enc,
        "W_dec": weights.W_dec,
        "b_dec": weights.b_dec,
    }
    description = {
        "activation": "topk",
        "expansion_factor": max(1, config.latents // config.width),  # num_latents has the last word
        "normalize_decoder": bool(torch.allclose(norms, torch.ones_like(norms), atol=1e-4)),
        "num_latents": config.latents,
        "k": config.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": config.width,
        "snce": about_origin(sae, origin),
    }
    write_folder(folder, FILE, tensors, description)


def load_sparsify(folder: str | Path, tower: TextTower, data: Embeddings) -> tuple[SparseAutoencoder, SAEOrigin]:
    """Read an SAE that sparsify wrote (`SparseCoder.save_to_disk`, or a hookpoint's folder of a training run).

    The result is a position code with the same reconstructions; its activations are sparsify's divided by `sae.scale`.

    Args:
        tower: the text encoder that the SAE was trained on. The file does not say, unless it is an export of ours.
        data: embeddings of prompts, from that tower: thresholds, unit and metrics are taken on them.

    Raises:
        SnceError: a missing or damaged file; a run's folder in place of a hookpoint's; a transcoder, a skip connection
            or another activation than topk; an SAE of another width, or exported from one of another text encoder.
    """
    _check_level(Path(folder))
    told = Description(folder, "sparsify")
    told.refuse_unless("activation", "topk", "only topk has a counterpart here")
    told.refuse_unless("transcode", False, "a transcoder predicts another module's output, and is no autoencoder")
    told.refuse_unless("skip_connection", False, "an SAE with a linear path beside its latents has no counterpart here")
    told.refuse_unless("signed", False, "latents with negative activations have no counterpart here")
    width, k = told.number("d_in"), told.number("k")
    # 0, or nothing in older files: so many times the width
    latents = told.number("num_latents") if told.entries.get("num_latents") else width * told.number("expansion_factor")
    shapes = {"encoder.weight": (latents, width), "encoder.bias": (latents,), "W_dec": (latents, width)}
    t = read_weights(Path(folder) / FILE, {**shapes, "b_dec": (width,)})
    told.check_exporter(told.entries.get("snce"), tower)
    weights = Weights(t["encoder.weight"], t["encoder.bias"], t["W_dec"], t["b_dec"], None, k)
    return adopt(weights, tower, data, {"imported_from": "sparsify", "hookpoint": Path(folder).resolve().name})


def _check_level(folder: Path) -> None:
    """A run has a folder for each hookpoint; its own config.json says nothing about SAEs."""
    if folder.is_dir() and not (folder / CONFIG).exists():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        if inside:
            raise SnceError(f"{folder} holds several hookpoints; name the folder of one of them: {', '.join(inside)}")
