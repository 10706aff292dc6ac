"""The card of an SAE on the hub: what it reads, its shape, how it was trained, what was measured, how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snce.sae.model import SparseAutoencoder
    from snce.sae.origin import SAEOrigin


def origin_of(sae: SparseAutoencoder) -> SAEOrigin:
    """What an SAE was trained on.

    Raises:
        SnceError: nobody said.
    """
    if sae.origin is None:
        raise SnceError(
            "this SAE does not know which text encoder it is for: set sae.origin = SAEOrigin(...) "
            "(snce.sae.origin) first"
        )
    return sae.origin


def describe_for_hub(sae: SparseAutoencoder, filename: str, repo_id: str | None) -> tuple[str, dict[str, Any]]:
    """(the card as Markdown, the fields of its header). See `snce.hub.mixin`."""
    origin = origin_of(sae)
    header: dict[str, Any] = {"tags": ["sparse-autoencoder", "interpretability"]}
    if origin.training.get("base_model"):
        header["base_model"] = origin.training["base_model"]
    shape = sae.describe()
    parts = [
        "# Sparse autoencoder of a text encoder",
        f"Codes the token embeddings that `{origin.tower}.{origin.module}` hands to the denoiser of "
        f"{f'a `{origin.pipeline}`' if origin.pipeline else 'a pipeline'}, by a {shape['support']} code. `snce find` "
        "finds the neuron of a concept in it.",
        _use(sae, filename, repo_id),
        f"## Made for\n\n- text encoder with fingerprint `{origin.fingerprint}`, width {shape['width']}, read at "
        f"`{origin.module}`",
        _table("Shape", shape),
        _table("Training", origin.training),
        _table("Measured", origin.metrics),
        LIMITS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n", header


LIMITS = """\
## Limits

- It knows what its training prompts were about; a concept that they do not hold has no neuron in it.
- It fits models with this very text encoder: another fingerprint is refused.
- The figures tell how well it describes embeddings, not how well a concept can be erased: that is on
  an eraser's card."""


def _use(sae: SparseAutoencoder, filename: str, repo_id: str | None) -> str:
    place = repo_id or "FOLDER"
    which = "" if filename == sae.hub_file else f', filename="{filename}"'
    return (
        "## Use\n\n```python\nfrom snce import SparseAutoencoder, find_neurons\n"
        f'sae = SparseAutoencoder.from_pretrained("{place}"{which})\n'
        "neurons = find_neurons(sae, target, neutral)  # embeddings of prompts with the concept, and without\n```"
    )


def _table(title: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    rows = [f"| {name} | {f'{value:.4g}' if isinstance(value, float) else value} |" for name, value in values.items()]
    return "\n".join([f"## {title}", "", "| | |", "|---|---:|", *rows])
