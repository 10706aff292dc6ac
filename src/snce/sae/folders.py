"""The folders that other libraries keep SAEs in: a description in JSON beside a safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snce.errors import SnceError
from snce.sae.formats import check_tensors
from snce.sae.origin import SAEOrigin
from snce.storage import parse_json, read_tensors, read_text, write_tensors, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from snce.sae.model import SparseAutoencoder
    from snce.text.towers import TextTower

CONFIG = "cfg.json"
"""Both libraries describe an SAE in a file of this name, beside its tensors."""


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
    """The cfg.json of a folder: entries are checked as they are read, and complaints name the file.

    Raises:
        SnceError: no such file, or one that is damaged.
    """

    def __init__(self, folder: str | Path, library: str) -> None:
        self.path = Path(folder) / CONFIG
        try:
            entries = parse_json(read_text(self.path))
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
            raise SnceError(f"{self.path}: {name!r} is {repr(value)[:60]} where a whole number above zero was expected")
        return value

    def refuse_unless(self, name: str, expected: Any, why: str) -> None:
        """Raise SnceError if an entry is there and differs from `expected`."""
        value = self.entries.get(name, expected)
        if value != expected:
            raise SnceError(f"{self.path}: {name} is {repr(value)[:60]}: {why}")

    def check_exporter(self, told: Any, tower: TextTower) -> None:
        """`told` is what an export of ours says about its text encoder: raise SnceError if it was another."""
        if isinstance(told, dict) and isinstance(told.get("fingerprint"), str):
            names = ("fingerprint", "tower", "module", "pipeline")
            fingerprint, *place = (str(told.get(name, ""))[:100] for name in names)  # a complaint is one line
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
