"""Edited text encoders as ONNX files: token ids in, edited embeddings out, in the folders that optimum expects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snce.erase.bake import Source, by_tower, describe, joined, load_encoder, load_tokenizer
from snce.erase.baked_folder import built, read_index
from snce.erase.baked_readme import render_onnx_readme
from snce.erase.edit import edit
from snce.errors import SnceError
from snce.pipelines import pipeline_folder
from snce.storage import write_text
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from snce.erase.eraser import ConceptEraser

OUTPUTS = {"CLIPTextModel": ("last_hidden_state", "pooler_output")}
"""Encoder classes that can be exported, with the names of the outputs, as optimum has them."""
TOLERANCE = 1e-4
"""Largest difference from PyTorch's float32 numbers, as a share of the largest of them, with which a file is kept."""


def export_onnx(model: str | Path, erasers: Sequence[str | Path], out: str | Path) -> Path:
    """Write `text_encoder/model.onnx`, with its config and tokenizer, of the model's text encoder with the erasers'
    neurons switched off; return `out`. Needs the extra `onnx`.

    Input: input_ids, int32 [batch, sequence], both of any size up to the encoder's positions. Outputs, float32:
    last_hidden_state [batch, sequence, d], edited; pooler_output [batch, d]. Negative prompts are edited too.

    Args:
        model: "emblem", a diffusers folder, or a hub id.
        erasers: files of erasers made for this model.
        out: the folder; it must not exist, or be empty.

    Raises:
        SnceError: as `snce.bake`; an encoder of another class than `OUTPUTS`; the extra is not installed; or the file
            differs from PyTorch's encoder by more than `TOLERANCE`.
    """
    _check_installed()
    if not erasers:
        raise SnceError("nothing to export: give one eraser or more")
    sources = [Source.read(Path(path)) for path in erasers]
    towers = by_tower(sources)
    with built(Path(out)) as folder:
        source = pipeline_folder(str(model))
        index = read_index(source)
        for tower, parts in towers.items():
            plain = load_encoder(source, index, tower)
            if type(plain).__name__ not in OUTPUTS:
                raise SnceError(f"{type(plain).__name__} cannot be exported to ONNX; {', '.join(OUTPUTS)} can")
            eraser = joined(plain, tower, parts)
            about = describe(eraser, parts)
            _write(folder / tower, plain.float(), eraser, about, load_tokenizer(source, tower))
            tokenizer = tower.replace("text_encoder", "tokenizer")
            shutil.copytree(source / tokenizer, folder / tokenizer, copy_function=shutil.copyfile)
        write_text(folder / "README.md", render_onnx_readme(str(model), folder, list(towers)))
    return Path(out)


class _Edited(nn.Module):
    """`encoder` with its outputs as a tuple; what is hooked on it is exported too."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.names = OUTPUTS[type(encoder).__name__]

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        output = self.encoder(input_ids)
        return tuple(output[name] for name in self.names)


def _write(folder: Path, plain: PreTrainedModel, eraser: ConceptEraser, about: dict[str, Any], tokenizer: Any) -> None:
    """The file of one encoder, compared with PyTorch's on the concepts' names."""
    tower = TextTower(plain, tokenizer, eraser.module, eraser.tower)
    module = _Edited(plain).requires_grad_(False).eval()

    def edited(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return edit(output, eraser.neurons, eraser.begin)

    handle = tower.module.register_forward_hook(edited, prepend=True)
    try:
        tokens = tower.tokenize(["", *dict.fromkeys(eraser.concepts)]).ids
        folder.mkdir()
        _export(module, tokens.to(torch.int32), folder / "model.onnx", about)
        expected = module(tokens)
    finally:
        handle.remove()
    plain.config.snce = about
    plain.config.save_pretrained(folder)
    for name, a, b in zip(module.names, _run(folder / "model.onnx", tokens), expected, strict=True):
        difference = float((a - b).abs().max() / b.abs().max())
        if not difference <= TOLERANCE:
            raise SnceError(
                f"{name} of the ONNX file differs by {difference:.1e}, more than {TOLERANCE}; nothing written"
            )


def _export(module: _Edited, tokens: Tensor, path: Path, about: dict[str, Any]) -> None:
    positions = module.encoder.config.max_position_embeddings
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=positions)}
    # the exporter takes a size of 1 for a constant
    program = torch.onnx.export(
        module,
        (tokens if len(tokens) > 1 else tokens.repeat(2, 1),),
        input_names=["input_ids"],
        output_names=list(module.names),
        dynamic_shapes={"input_ids": sizes},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props["snce"] = json.dumps(about)
    program.save(path, external_data=False)


def _run(path: Path, tokens: Tensor) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(array) for array in session.run(None, {"input_ids": tokens.to(torch.int32).numpy()})]


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise SnceError(f'ONNX export needs {", ".join(missing)}; install them with pip install "snce[onnx]"')
