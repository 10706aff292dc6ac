"""SAEs as SAELens keeps them: a folder with cfg.json and sae_weights.safetensors (its format 6).

**Units.** Our `scale` is folded in, so that decoder rows keep unit norm and activations are in the units of the
embeddings: SAELens' activations are ours times `sae.scale`. Centring stays what it is in both: `apply_b_dec_to_input`.

**What is exported.** SAELens codes each token position by itself.

- A position code with TopK becomes its `topk`: the same activations and reconstructions as `SparseAutoencoder.encode`.
- A position code with BatchTopK becomes its `jumprelu`, with our calibrated thresholds: SAELens has no BatchTopK for
  inference and saves its own so. An activation is kept where it passes its latent's threshold. (`activation="topk"`
  exports the k strongest per position instead, which is how our own `encode` uses such an SAE after training.)
- A prompt code chooses its active latents by what all positions of a prompt hold, which no function of one position
  can: `topk` is refused. It becomes a `jumprelu` with our thresholds. They were calibrated on the highest activation in
  a prompt, and this is what carries over exactly: `acts.amax(positions)` passes zero in the prompts in which our neuron
  passes its threshold, and is then that same activation. At positions where an active latent stays below its threshold,
  SAELens has zero where ours has its activation. So use such an export to look at latents, to detect, to steer, and
  expect a poorer reconstruction (docs/ecosystem.md has figures).

Begin-of-text is silent in our SAEs and was never trained on; SAELens codes whatever it is given: leave position 0 out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from snce.errors import SnceError
from snce.sae.folders import Description, about_origin, read_weights, write_folder
from snce.sae.foreign import Weights, adopt, weights_of

if TYPE_CHECKING:
    from snce.sae.model import SparseAutoencoder
    from snce.sae.origin import SAEOrigin
    from snce.text.harvest import Embeddings
    from snce.text.towers import TextTower

FILE = "sae_weights.safetensors"
FORMAT_VERSION = "6.0.0"
"""Without a version of 6 or later in the metadata, SAELens takes the file for an old one and misreads it."""
ARCHITECTURES = ("standard", "topk", "jumprelu")


def save_saelens(
    sae: SparseAutoencoder,
    folder: str | Path,
    origin: SAEOrigin,
    activation: Literal["topk", "jumprelu"] | None = None,
) -> None:
    """Write folder/cfg.json and folder/sae_weights.safetensors, for `sae_lens.SAE.load_from_disk(folder)`.

    Args:
        activation: None for what matches best: see this module's text.

    Raises:
        SnceError: a prompt code or a jumprelu SAE as `topk`; `jumprelu` of an SAE whose thresholds were not calibrated;
            a folder that cannot be written.
    """
    config, weights = sae.config, weights_of(sae)
    plain_topk = config.support == "position" and config.activation == "topk"
    chosen = activation or ("topk" if plain_topk else "jumprelu")
    if chosen not in ("topk", "jumprelu"):
        raise SnceError(f"unknown activation {chosen!r}: an SAE is exported to SAELens as topk or jumprelu")
    if chosen == "topk":
        refuse_what_is_no_topk(sae, "SAELens")
    elif config.activation != "jumprelu" and not bool((sae.threshold > 0).any()):
        raise SnceError(
            "the SAE has no calibrated thresholds, and a jumprelu is nothing without them: run `calibrate_thresholds` "
            "on embeddings first (`snce train` does)"
        )
    tensors: dict[str, Tensor] = {
        "W_enc": weights.W_enc.T,
        "b_enc": weights.b_enc,
        "W_dec": weights.W_dec,
        "b_dec": weights.b_dec,
    }
    description: dict[str, Any] = {
        "architecture": chosen,
        "d_in": config.width,
        "d_sae": config.latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": FORMAT_VERSION,
            "sae_lens_training_version": None,
            "hook_name": f"{origin.tower}.{origin.module}",
            "snce": about_origin(sae, origin),
        },
    }
    if chosen == "topk":
        description |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    else:
        tensors["threshold"] = (sae.threshold * sae.scale).clamp_min(0)
    write_folder(folder, FILE, tensors, description)


def refuse_what_is_no_topk(sae: SparseAutoencoder, library: str) -> None:
    """Raise SnceError if the SAE does not choose the k strongest latents of each position."""
    if sae.config.support == "prompt":
        raise SnceError(
            f"this SAE is a prompt code: its k latents are chosen per prompt, and a topk of {library} would choose "
            "others at each position; export it to SAELens as jumprelu, or train with `--support position`"
        )
    if sae.config.activation == "jumprelu":
        raise SnceError(f"this SAE is a jumprelu: a topk of {library} would choose other latents; export it to SAELens")


def load_saelens(folder: str | Path, tower: TextTower, data: Embeddings) -> tuple[SparseAutoencoder, SAEOrigin]:
    """Read an SAE that SAELens wrote (`sae.save_model`, or `save_inference_model` of one in training).

    The result is a position code with the same reconstructions; its activations are SAELens' divided by `sae.scale`.
    `standard` (ReLU) and `jumprelu` keep their thresholds, `topk` gets calibrated ones. Decoder rows are scaled to unit
    norm where that changes nothing: not in a `topk` of unequal rows.

    Args:
        tower: the text encoder that the SAE was trained on. The file does not say, unless it is an export of ours.
        data: embeddings of prompts, from that tower: thresholds, unit and metrics are taken on them.

    Raises:
        SnceError: a missing or damaged file; a format before 6; an architecture, normalisation or reshaping that has no
            counterpart here; an SAE of another width, or exported from one of another text encoder.
    """
    told = Description(folder, "SAELens")
    _check_version(told)
    architecture = told.entries.get("architecture")
    if architecture not in ARCHITECTURES:
        hint = "; save it with save_inference_model" if architecture in ("batchtopk", "matryoshka_batchtopk") else ""
        raise SnceError(
            f"{told.path}: SAEs of architecture {repr(architecture)[:60]} have no counterpart here; "
            f"{', '.join(ARCHITECTURES)} can be brought in{hint}"
        )
    told.refuse_unless("normalize_activations", "none", "fold it into the weights with SAELens, and save the SAE again")
    told.refuse_unless("reshape_activations", "none", "SAEs of attention heads read no token embeddings")
    width, latents = told.number("d_in"), told.number("d_sae")
    k = told.number("k") if architecture == "topk" else None
    shapes = {"W_enc": (width, latents), "b_enc": (latents,), "W_dec": (latents, width), "b_dec": (width,)}
    if architecture == "jumprelu":
        shapes["threshold"] = (latents,)
    t = read_weights(Path(folder) / FILE, shapes)
    metadata = told.entries["metadata"]
    told.check_exporter(metadata.get("snce"), tower)
    threshold = None if architecture == "topk" else t.get("threshold", torch.zeros(latents)).clamp_min(0)
    weights = Weights(t["W_enc"].T, t["b_enc"], t["W_dec"], t["b_dec"], threshold, k)
    if not told.entries.get("apply_b_dec_to_input", True):
        weights = Weights(**{**vars(weights), "b_enc": weights.b_enc + weights.W_enc @ weights.b_dec})
    rescaled = bool(told.entries.get("rescale_acts_by_decoder_norm", False))
    if architecture != "topk" or rescaled:
        weights = _with_unit_decoder(weights)
    training = {"imported_from": f"SAELens {metadata.get('sae_lens_version')}", "architecture": architecture}
    training |= {name: metadata[name] for name in ("model_name", "hook_name") if metadata.get(name)}
    return adopt(weights, tower, data, training)


def _check_version(told: Description) -> None:
    metadata = told.entries.get("metadata")
    version = metadata.get("sae_lens_version") if isinstance(metadata, dict) else None
    major = re.match(r"([0-9]{1,9})(?:\.|\Z)", str(version))  # int() refuses thousands of digits
    if major is None or int(major[1]) < 6:
        raise SnceError(
            f"{told.path} is no SAE of SAELens 6 or later (sae_lens_version is {repr(version)[:60]}); load it with a "
            "current SAELens and save it again"
        )


def _with_unit_decoder(weights: Weights) -> Weights:
    """The same SAE with decoder rows of unit norm: what a row loses, its latent's activation gains."""
    norm = weights.W_dec.norm(dim=1)
    norm = torch.where(norm > 0, norm, 1.0)  # a latent that writes nothing
    return Weights(
        weights.W_enc * norm[:, None],
        weights.b_enc * norm,
        weights.W_dec / norm[:, None],
        weights.b_dec,
        None if weights.threshold is None else weights.threshold * norm,
        weights.k,
    )
