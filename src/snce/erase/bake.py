"""Baking: a copy of a pipeline's folder whose text encoders carry the edit in themselves.

Each encoder that an eraser is for becomes one of the classes of `snce.erase.baked`. That file goes into the folder, so
that diffusers loads it with `trust_remote_code=True` and without snce; the numbers of the edit are buffers in its
safetensors. The other files of the pipeline are copied as they are.
"""

from __future__ import annotations

import copy
import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from snce.erase.baked_folder import built, code_file, copy_pipeline, read_index, save_encoder, write_index
from snce.erase.baked_readme import render_readme
from snce.erase.compose import compose
from snce.erase.encoders import load_encoder, towers_of
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.pipelines import EMBLEM, pipeline_folder
from snce.storage import write_text
from snce.text.fingerprint import weights_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel

    from snce.text.towers import TextTower

FORMAT = 2
"""Of what `config.snce` holds."""


@dataclass(frozen=True)
class Source:
    """An eraser with the file that it came from."""

    eraser: ConceptEraser
    name: str
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Source:
        eraser = ConceptEraser.load(path)
        return cls(eraser, path.name, hashlib.sha256(path.read_bytes()).hexdigest())


@dataclass(frozen=True)
class Edits:
    """All that happens to one text encoder."""

    name: str
    """Attribute of the pipeline that holds it."""
    plain: PreTrainedModel
    parts: tuple[ConceptEraser, ...]
    """An eraser for each place at which it is edited."""
    towers: tuple[TextTower, ...]
    """Those places, in the same order."""
    sources: tuple[Source, ...] = ()

    def describe(self) -> dict[str, Any]:
        """What its config will say: all that it takes to build the baked encoder, and what was baked."""
        from snce import __version__

        norms = [name for name, module in self.plain.named_modules() if type(module).__name__.endswith("Norm")]
        return {
            "format": FORMAT,
            "version": __version__,
            "norm": norms[-1].removeprefix("text_model."),
            "parts": [_describe_part(part, tower) for part, tower in zip(self.parts, self.towers, strict=True)],
            "fingerprint": self.parts[0].fingerprint,
            "erasers": [{"file": source.name, "sha256": source.sha256} for source in self.sources],
        }


def bake(model: str | Path, erasers: Sequence[str | Path], out: str | Path) -> Path:
    """Write a diffusers folder whose text encoders have the erasers' neurons switched off; return `out`.

    `DiffusionPipeline.from_pretrained(out, trust_remote_code=True)` then draws, bit for bit, what the model draws with
    the erasers attached by `attach(pipe, edit_negative=True)`: a baked encoder cannot know a negative prompt from a
    prompt, and edits both.

    Args:
        model: "emblem", a diffusers folder, or a hub id.
        erasers: files of erasers made for this model.
        out: the folder; it must not exist, or be empty.

    Raises:
        SnceError: an eraser for another text encoder, erasers that cannot be joined, a text encoder of a class that
            cannot be baked or that is baked already, or a folder that cannot be written.
    """
    if not erasers:
        raise SnceError("nothing to bake: give one eraser or more")
    sources = [Source.read(Path(path)) for path in erasers]
    with built(Path(out)) as folder:
        source = pipeline_folder(str(model))
        index = read_index(source)
        edits = plan(source, index, sources)
        name, code = code_file()
        for edit in edits:
            baked = bake_encoder(edit)
            baked.config.auto_map = {"AutoModel": f"{name}.{type(baked).__name__}"}  # as when it is saved again
            save_encoder(baked, folder / edit.name)
            (folder / edit.name / f"{name}.py").write_bytes(code)
            index[edit.name] = [name, type(baked).__name__]
            del baked
            _check(folder / edit.name, edit)
        card = (source.parent if str(model) == EMBLEM else source) / "README.md"
        names = [edit.name for edit in edits]
        copy_pipeline(source, folder, index, without=set(names), card=card)
        write_index(folder, index)
        write_text(folder / "README.md", render_readme(str(model), folder, names))
    return Path(out)


def plan(folder: Path, index: dict[str, Any], sources: Sequence[Source]) -> list[Edits]:
    """What the erasers do to each text encoder of the pipeline in `folder`.

    Raises:
        SnceError: the erasers cannot be joined; or they were not made for this pipeline's encoders, or not for these
            places of them; or an encoder cannot be baked.
    """
    try:
        parts = compose([source.eraser for source in sources]).parts
    except SnceError as error:
        raise SnceError(f"{error}; bake one folder for each") from error
    encoders = {name: load_encoder(folder, index, name) for name in dict.fromkeys(part.tower for part in parts)}
    for name, plain in encoders.items():
        found = weights_fingerprint(plain)
        for part in parts:
            if part.tower == name and part.fingerprint != found:
                raise SnceError(
                    f"the eraser of {', '.join(dict.fromkeys(part.concepts))} was made for a text encoder with "
                    f"fingerprint {part.fingerprint}, and this model's {name} has {found}; bake the model that it was "
                    "made for"
                )
    towers = towers_of(folder, index, encoders, parts)
    edits = []
    for name, plain in encoders.items():
        own = tuple(part for part in parts if part.tower == name)
        used = tuple(s for s in sources if any(part.tower == name for part in s.eraser.parts))
        edits.append(Edits(name, plain, own, tuple(towers[part.place] for part in own), used))
    return edits


def bake_encoder(edits: Edits) -> PreTrainedModel:
    """A copy of the plain encoder that has the neurons switched off, of a class of `snce.erase.baked`. The two share
    their weights."""
    from snce.erase import baked

    weights = chain(edits.plain.parameters(), edits.plain.buffers())
    erased: Any = copy.deepcopy(edits.plain, {id(tensor): tensor for tensor in weights})
    erased.config.snce = edits.describe()
    vars(erased).pop("_weight_conversions", None)  # the names of old checkpoints: not known to classes of one's own
    erased.__class__ = getattr(baked, f"Erased{type(edits.plain).__name__}")
    erased.add_neurons()
    for neurons, part in zip(erased.snce, edits.parts, strict=True):
        for name, tensor in part.neurons._asdict().items():
            bits = tensor.float().contiguous().view(torch.int32) if name in baked.FLOATS else tensor
            getattr(neurons, name).copy_(bits)
    return erased.eval()


def _describe_part(part: ConceptEraser, tower: TextTower) -> dict[str, Any]:
    field = tower.reading.is_field
    return {
        "place": tower.path,
        "width": part.width,
        "begin": part.begin,
        "leading": tower.template[0][: part.begin] if field and part.begin else [],
        "masked": field and not tower.pads,
        "concepts": list(part.concepts),
        "thresholds": part.neurons.threshold.tolist(),
        "strengths": part.neurons.strength.tolist(),
        "whole_prompt": part.neurons.whole_prompt.tolist(),
    }


def _check(folder: Path, edits: Edits) -> None:
    """Compare what was written with the attached eraser, on the concepts' names: every output, every bit."""
    from snce.erase import baked

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = getattr(baked, config["architectures"][0])
    written = kind.from_pretrained(folder, use_safetensors=True, dtype="auto").eval()
    concepts = dict.fromkeys(concept for part in edits.parts for concept in part.concepts)
    tokens = edits.towers[0].tokenize(["", *concepts])
    mask = {} if tokens.mask is None else {"attention_mask": tokens.mask.long()}
    with torch.no_grad(), ExitStack() as attached:
        for part, tower in zip(edits.parts, edits.towers, strict=True):
            attached.enter_context(part.attach(tower, allow_mismatch=True))  # compared before
        expected = edits.plain(tokens.ids, output_hidden_states=True, **mask)
        found = written(tokens.ids, output_hidden_states=True, **mask)
    for a, b in zip(_tensors(expected), _tensors(found), strict=True):
        if b is not None and not torch.equal(a, b):  # None: a hidden state that is not handed out
            raise SnceError(
                f"the baked {edits.name} differs from the one with the eraser attached; nothing was written"
            )


def _tensors(output: Any) -> Iterator[Any]:
    for value in output.to_tuple():
        several = value if isinstance(value, tuple) else (value,)
        yield from (t for t in several if t is None or isinstance(t, torch.Tensor))
