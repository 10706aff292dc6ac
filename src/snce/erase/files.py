"""An eraser on disk: one safetensors file, however many towers it is for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from snce.erase.edit import Neurons
from snce.errors import SnceError
from snce.storage import parse_json, read_metadata, read_tensors, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from snce.erase.eraser import ConceptEraser

FORMAT = "snce-eraser-2"
FORMAT_OF_TOWERS = "snce-eraser-towers-1"
"""Of an eraser with several parts: its tensors are named 0.encoder, 1.encoder, ..., and its metadata "parts" is a JSON
list with what the metadata of each part alone would be. A reader of the other format must not take it for whole."""


def write_eraser(eraser: ConceptEraser, path: Path) -> None:
    """See `ConceptEraser.save`."""
    if not eraser.others:
        write_tensors(path, eraser.neurons._asdict(), {"format": FORMAT, **_metadata(eraser)})
        return
    named = [(f"{i}.{name}", t) for i, part in enumerate(eraser.parts) for name, t in part.neurons._asdict().items()]
    parts = json.dumps([_metadata(part) for part in eraser.parts])
    write_tensors(path, dict(named), {"format": FORMAT_OF_TOWERS, "parts": parts})


def _metadata(part: ConceptEraser) -> dict[str, str]:
    return {
        "concepts": json.dumps(part.concepts),
        "fingerprint": part.fingerprint,
        "tower": part.tower,
        "module": part.module,
        "pipeline": part.pipeline,
        "begin": str(part.begin),
        "card": json.dumps(part.card),
    }


def read_eraser(path: Path, kind: type[ConceptEraser]) -> ConceptEraser:
    """An object of class `kind`: see `ConceptEraser.load`."""
    several = read_metadata(path).get("format") == FORMAT_OF_TOWERS
    tensors, metadata = read_tensors(path, FORMAT_OF_TOWERS if several else FORMAT)
    try:
        if not several:
            return _part(kind, tensors, metadata)
        parts = [
            _part(kind, {name: tensors[f"{i}.{name}"] for name in Neurons._fields if f"{i}.{name}" in tensors}, told)
            for i, told in enumerate(parse_json(metadata["parts"]))
        ]
        return replace(parts[0], others=tuple(parts[1:]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, SnceError):
            raise SnceError(f"{path}: {error}") from error
        raise SnceError(f"{path} has damaged metadata: {' '.join(str(error).split())[:200]}") from error


def _part(kind: type[ConceptEraser], tensors: dict[str, Tensor], metadata: dict[str, str]) -> ConceptEraser:
    missing = [name for name in Neurons._fields if name not in tensors]
    if missing:
        raise SnceError(f"it lacks the tensors {', '.join(missing)}")
    if tensors["encoder"].ndim != 2:
        raise SnceError(f"encoder must be [n, d], not {list(tensors['encoder'].shape)}")
    for name in Neurons._fields:
        # numbers of other kinds would be turned into some edit or other
        if tensors[name].is_floating_point() == (name == "whole_prompt") or tensors[name].is_complex():
            raise SnceError(f"tensor {name!r} is of type {tensors[name].dtype}")
    # copied: in a file, numbers lie where they lie, and products of unaligned memory round otherwise
    floats = {name: tensors[name].to(torch.float32, copy=True) for name in Neurons._fields if name != "whole_prompt"}
    return kind(
        Neurons(**floats, whole_prompt=tensors["whole_prompt"].bool()),
        tuple(str(c) for c in parse_json(metadata["concepts"])),
        metadata["fingerprint"],
        metadata.get("tower", "text_encoder"),
        metadata.get("module", "final_layer_norm"),
        metadata.get("pipeline", ""),
        int(metadata["begin"]),
        _card(parse_json(metadata.get("card", "{}"))),
    )


def _card(raw: Any) -> dict[str, Any]:
    """The card of a file, with its entries in the shape that others rely on."""
    card = {str(concept): dict(entry) for concept, entry in dict(raw).items()}
    for entry in card.values():
        if "neurons" in entry:
            entry["neurons"] = [dict(neuron) for neuron in entry["neurons"]]
    return card
