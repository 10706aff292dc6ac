"""Baking: a copy of a pipeline's folder whose text encoder carries the edit in itself.

The encoder becomes one of the classes of `snce.erase.baked`. That file goes into the folder, so that diffusers loads it
with `trust_remote_code=True` and without snce; the numbers of the edit are buffers in its safetensors. The other files
of the pipeline are copied as they are.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from snce.erase.baked_folder import built, code_file, copy_pipeline, read_index, write_index
from snce.erase.baked_readme import render_readme
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.pipelines import EMBLEM, pipeline_folder, without_torchvision_notice
from snce.storage import write_text
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

FORMAT = 1
"""Of what `config.snce` holds."""
ERASED = {
    "CLIPTextModel": "ErasedCLIPTextModel",
    "CLIPTextModelWithProjection": "ErasedCLIPTextModelWithProjection",
    "T5EncoderModel": "ErasedT5EncoderModel",
}
"""Encoder classes that can be baked, with the class of `snce.erase.baked` that each becomes."""


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


def bake(model: str | Path, erasers: Sequence[str | Path], out: str | Path) -> Path:
    """Write a diffusers folder whose text encoder has the erasers' neurons switched off; return `out`.

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
    towers = by_tower(sources)
    with built(Path(out)) as folder:
        source = pipeline_folder(str(model))
        index = read_index(source)
        for tower, parts in towers.items():
            plain = load_encoder(source, index, tower)
            eraser = joined(plain, tower, parts)
            baked = bake_encoder(plain, eraser, parts)
            name, code = code_file()
            baked.config.auto_map = {"AutoModel": f"{name}.{type(baked).__name__}"}  # as when it is saved again
            baked.save_pretrained(folder / tower)
            (folder / tower / f"{name}.py").write_bytes(code)
            index[tower] = [name, type(baked).__name__]
            _check(folder / tower, plain, eraser, load_tokenizer(source, tower))
        card = (source.parent if str(model) == EMBLEM else source) / "README.md"
        copy_pipeline(source, folder, index, without=set(towers), card=card)
        write_index(folder, index)
        write_text(folder / "README.md", render_readme(str(model), folder, list(towers)))
    return Path(out)


def by_tower(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """The erasers of each text encoder, by the attribute under which the pipeline holds it."""
    towers: dict[str, list[Source]] = {}
    for source in sources:
        towers.setdefault(source.eraser.tower, []).append(source)
    return towers


def load_encoder(folder: Path, index: dict[str, Any], tower: str) -> PreTrainedModel:
    """The text encoder that a pipeline's folder has at `tower`, in the dtype of its files.

    Raises:
        SnceError: there is none, or one that cannot be baked.
    """
    import transformers

    if tower not in index:
        raise SnceError(f"the model has no {tower}, which this eraser is for")
    library, kind = index[tower]
    if kind in ERASED.values():
        raise SnceError(
            f"the {tower} of this model is baked already; take the model that it was made from, with all erasers"
        )
    if library != "transformers" or kind not in ERASED:
        raise SnceError(f"{library}.{kind} cannot be baked; {', '.join(ERASED)} can")
    with without_torchvision_notice():
        return getattr(transformers, kind).from_pretrained(folder / tower, use_safetensors=True, dtype="auto").eval()


def joined(plain: PreTrainedModel, tower: str, sources: Sequence[Source]) -> ConceptEraser:
    """The erasers of one text encoder in one, checked against it.

    Raises:
        SnceError: they were not made for this encoder, or not for the same module of it.
    """
    try:
        eraser = reduce(or_, (source.eraser for source in sources))
    except SnceError as error:
        raise SnceError(f"{error}; bake one folder for each") from error
    at = TextTower(plain, None, eraser.module, tower)
    if (at.fingerprint, at.path) != (eraser.fingerprint, eraser.module):
        raise SnceError(
            f"the eraser of {', '.join(dict.fromkeys(eraser.concepts))} was made for a text encoder with fingerprint "
            f"{eraser.fingerprint}, and this model's {tower} has {at.fingerprint}; bake the model that it was made for"
        )
    return eraser


def bake_encoder(plain: PreTrainedModel, eraser: ConceptEraser, sources: Sequence[Source] = ()) -> PreTrainedModel:
    """A copy of `plain` that has the eraser's neurons switched off, of a class of `snce.erase.baked`."""
    from snce.erase import baked

    place = TextTower(plain, None, eraser.module).module
    prefix = next(name for name, module in plain.named_modules() if module is place)
    config = type(plain.config).from_dict(plain.config.to_dict() | {"snce": describe(eraser, sources)})
    with torch.random.fork_rng(devices=[]):  # its initial weights are drawn, and replaced
        erased = getattr(baked, ERASED[type(plain).__name__])(config)
    state = {_moved(key, prefix): tensor for key, tensor in plain.state_dict().items()}
    for name, tensor in eraser.neurons._asdict().items():
        state[f"{prefix}.{name}"] = tensor.float().contiguous().view(torch.int32) if name in baked.FLOATS else tensor
    # assigned, not copied: each weight keeps the dtype that it has in `plain`
    erased.load_state_dict(erased.state_dict() | state, assign=True)
    return erased.eval()


def _moved(key: str, prefix: str) -> str:
    """Where a weight goes when the module at `prefix` becomes the inside of an `Edited`."""
    return f"{prefix}.inner.{key.removeprefix(f'{prefix}.')}" if key.startswith(f"{prefix}.") else key


def describe(eraser: ConceptEraser, sources: Sequence[Source]) -> dict[str, Any]:
    """What the config of a baked encoder says of its edit: all that it needs to be built, and what was baked."""
    from snce import __version__

    neurons = eraser.neurons
    return {
        "format": FORMAT,
        "version": __version__,
        "module": eraser.module,
        "begin": eraser.begin,
        "neurons": len(eraser.concepts),
        "concepts": list(eraser.concepts),
        "thresholds": neurons.threshold.tolist(),
        "strengths": neurons.strength.tolist(),
        "whole_prompt": neurons.whole_prompt.tolist(),
        "fingerprint": eraser.fingerprint,
        "erasers": [{"file": source.name, "sha256": source.sha256} for source in sources],
    }


def load_tokenizer(folder: Path, tower: str) -> Any:
    """The tokenizer of a pipeline's text encoder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder / tower.replace("text_encoder", "tokenizer"))


def _check(folder: Path, plain: PreTrainedModel, eraser: ConceptEraser, tokenizer: Any) -> None:
    """Compare what was written with the attached eraser, on the concepts' names: every output, every bit."""
    from snce.erase import baked

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    written = (
        getattr(baked, config["architectures"][0]).from_pretrained(folder, use_safetensors=True, dtype="auto").eval()
    )
    tower = TextTower(plain, tokenizer, eraser.module, eraser.tower)
    tokens = tower.tokenize(["", *dict.fromkeys(eraser.concepts)]).ids
    with torch.no_grad(), eraser.attach(tower):
        expected = plain(tokens, output_hidden_states=True)
        found = written(tokens, output_hidden_states=True)
    for a, b in zip(_tensors(expected), _tensors(found), strict=True):
        if not torch.equal(a, b):
            raise SnceError(
                f"the baked {eraser.tower} differs from the one with the eraser attached; nothing was written"
            )


def _tensors(output: Any) -> list[torch.Tensor]:
    return [t for value in output.to_tuple() for t in (value if isinstance(value, tuple) else (value,))]
