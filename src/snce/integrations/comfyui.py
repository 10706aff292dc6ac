"""The nodes for ComfyUI. The folder `integrations/comfyui` of the repository hands them over to it.

They follow ComfyUI's documented interface of node classes, and import without ComfyUI: only the list of files in the
models folder needs it.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.integrations.conditioning import CHUNK, Reading, edit_conditioning, read_conditioning

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = "snce_erasers"
"""Below ComfyUI's folder of models."""
FROM_PATH = "(use path)"
CATEGORY = "conditioning/concept erasure"
ERASER = "CONCEPT_ERASER"
_ERASER_INPUT = (ERASER, {"tooltip": "From Load Concept Eraser."})
_CHUNK_INPUT = (
    "INT",
    {"default": CHUNK, "min": 0, "max": 8192, "advanced": True,
     "tooltip": "Positions that the text encoder reads at once, begin and end included: 77 for CLIP. 0: it has read "
                "all tokens as one prompt. Erasers of encoders without begin-of-text (T5) always take all as one."},
)  # fmt: skip


def register_folder() -> None:
    """Make `models/snce_erasers` known to ComfyUI, and make the folder if it is not there."""
    folder_paths = import_module("folder_paths")
    folder = Path(folder_paths.models_dir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    folder_paths.add_model_folder_path(FOLDER, str(folder))
    folder_paths.folder_names_and_paths[FOLDER][1].add(".safetensors")  # nothing else is listed


class LoadConceptEraser:
    """File -> CONCEPT_ERASER."""

    DESCRIPTION = "Loads an eraser that snce has made. Chain several by `join` to erase several concepts."
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = (ERASER,)
    RETURN_NAMES = ("eraser",)
    OUTPUT_TOOLTIPS = ("For Apply Concept Eraser and Concept Activation.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        files = _files()
        return {
            "required": {
                "eraser": ([*files, FROM_PATH], {"tooltip": f"A file in models/{FOLDER}."}),
                "path": ("STRING", {"default": "", "tooltip": f"A file anywhere; choose {FROM_PATH} above."}),
            },
            "optional": {"join": (ERASER, {"tooltip": "Another eraser of the same model."})},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, eraser: str | None = None, path: str | None = None) -> bool | str:
        """True, or what is wrong with the choice. An input that comes over a link is None here, and is not judged."""
        if eraser is None or path is None:
            return True
        try:
            _resolve(eraser, path)
        except SnceError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, eraser: str | None = None, path: str | None = None, **_links: Any) -> str:
        """A hash of the file, so that a new eraser under the old name is loaded."""
        if eraser is None or path is None:
            return ""
        return hashlib.sha256(_resolve(eraser, path).read_bytes()).hexdigest()

    def load(self, eraser: str, path: str = "", join: ConceptEraser | None = None) -> tuple[ConceptEraser]:
        loaded = ConceptEraser.load(_resolve(eraser, path))
        return (loaded if join is None else loaded | join,)


class ApplyConceptEraser:
    """CONDITIONING -> CONDITIONING with the eraser's neurons switched off."""

    DESCRIPTION = (
        "Takes the concepts out of a prompt's conditioning and its pooled output. A prompt without them keeps both bit "
        "for bit. Connect the positive prompt: a negative prompt that names the concept is meant to keep it out."
    )
    CATEGORY = CATEGORY
    FUNCTION = "apply"
    RETURN_TYPES = ("CONDITIONING",)
    RETURN_NAMES = ("conditioning",)
    OUTPUT_TOOLTIPS = ("The same conditioning without the concepts.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        strength = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05,
                    "tooltip": "Times the strength in the file. 0 changes nothing."}  # fmt: skip
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "From CLIP Text Encode."}),
                "eraser": _ERASER_INPUT,
                "strength": ("FLOAT", strength),
            },
            "optional": {"chunk": _CHUNK_INPUT},
        }

    def apply(
        self, conditioning: Sequence[Any], eraser: ConceptEraser, strength: float = 1.0, chunk: int = CHUNK
    ) -> tuple[list[list[Any]]]:
        return (edit_conditioning(conditioning, eraser, strength, chunk),)


class ConceptActivation:
    """CONDITIONING -> how strongly the prompt activates the eraser's neurons."""

    DESCRIPTION = (
        "Shows each neuron's highest activation in the conditioning beside its threshold: above it, the concept is in "
        "the prompt. The numbers are those of the neuron that is furthest above its threshold, or least below."
    )
    CATEGORY = CATEGORY
    FUNCTION = "read"
    RETURN_TYPES = ("FLOAT", "FLOAT", "BOOLEAN", "STRING")
    RETURN_NAMES = ("activation", "threshold", "fires", "report")
    OUTPUT_TOOLTIPS = (
        "Its highest activation.", "Its threshold.", "Whether any neuron fires.", "A line for each neuron.",
    )  # fmt: skip
    OUTPUT_NODE = True  # it shows something, and so runs without anything behind it

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "From CLIP Text Encode, before any eraser."}),
                "eraser": _ERASER_INPUT,
            },
            "optional": {"chunk": _CHUNK_INPUT},
        }

    def read(self, conditioning: Sequence[Any], eraser: ConceptEraser, chunk: int = CHUNK) -> dict[str, Any]:
        readings = read_conditioning(conditioning, eraser, chunk)
        top = max(readings, key=lambda reading: reading.activation - reading.threshold)
        several = len({reading.place for reading in readings}) > 1
        report = "\n".join(_line(reading, several) for reading in readings)
        return {"ui": {"text": (report,)}, "result": (top.activation, top.threshold, top.fires, report)}


NODE_CLASS_MAPPINGS = {
    "SnceLoadConceptEraser": LoadConceptEraser,
    "SnceApplyConceptEraser": ApplyConceptEraser,
    "SnceConceptActivation": ConceptActivation,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SnceLoadConceptEraser": "Load Concept Eraser",
    "SnceApplyConceptEraser": "Apply Concept Eraser",
    "SnceConceptActivation": "Concept Activation",
}


def _files() -> list[str]:
    """Files in the models folder; none outside of ComfyUI."""
    try:
        return list(import_module("folder_paths").get_filename_list(FOLDER))
    except (ModuleNotFoundError, KeyError):  # not ComfyUI, or the folder is not registered
        return []


def _resolve(eraser: str, path: str) -> Path:
    """The file that is meant by the two inputs of the loader."""
    path = path.strip()
    if (eraser == FROM_PATH) != bool(path):
        wanted = f"fill in `path`, or choose a file in models/{FOLDER}"
        raise SnceError(wanted if not path else f"choose {FROM_PATH!r} for `eraser`, or leave `path` empty")
    if path:
        file = Path(path).expanduser()
        if not file.is_file():
            raise SnceError(f"there is no file {path}")
        return file
    found = import_module("folder_paths").get_full_path(FOLDER, eraser) if eraser in _files() else None
    if found is None:
        raise SnceError(f"there is no eraser {eraser} in models/{FOLDER}; put it there, or choose another")
    return Path(found)


def _line(reading: Reading, several: bool) -> str:
    verdict = "fires" if reading.fires else "silent"
    where = f" in {reading.place}" if several else ""
    return f"{reading.concept}{where}: {reading.activation:.4g} (threshold {reading.threshold:.4g}), {verdict}"
