"""Edited text encoders as ONNX files: token ids in, edited embeddings out, in the folders that optimum expects."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snce.erase.bake import Edits, Source, plan
from snce.erase.baked_folder import built, read_index
from snce.erase.baked_readme import render_onnx_readme
from snce.erase.edit import edit
from snce.errors import SnceError
from snce.pipelines import pipeline_folder
from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from snce.erase.eraser import ConceptEraser
    from snce.text.tokens import Tokens
    from snce.text.towers import TextTower

OUTPUTS = {
    "CLIPTextModel": ("last_hidden_state", "pooler_output"),
    "CLIPTextModelWithProjection": ("text_embeds", "last_hidden_state"),
    "T5EncoderModel": ("last_hidden_state",),
    "UMT5EncoderModel": ("last_hidden_state",),
}
"""Encoder classes that can be exported, with the names of the outputs, as optimum has them."""
TOLERANCE = 1e-4
"""Largest difference from PyTorch's float32 numbers, as a share of the largest of them, with which a file is kept."""
LARGEST = 2**30
"""Bytes of weights up to which they go into the ONNX file itself. Its format ends at 2 GB."""


def export_onnx(model: str | Path, erasers: Sequence[str | Path], out: str | Path) -> Path:
    """Write `text_encoder/model.onnx`, with its config and tokenizer, of each of the model's text encoders that the
    erasers are for, with their neurons switched off; return `out`. Needs the extra `onnx`.

    Input: input_ids, int32 [batch, sequence], both of any size up to the encoder's positions; attention_mask of the
    same type and shape where the pipeline hands its encoder one. Outputs, float32: those of `OUTPUTS`; where hidden
    states are edited, all of them, too, as hidden_states.0, hidden_states.1, ... Negative prompts are edited too.

    Args:
        model: "emblem", a diffusers folder, or a hub id.
        erasers: files of erasers made for this model.
        out: the folder; it must not exist, or be empty.

    Raises:
        SnceError: as `snce.bake`; an encoder of another class than `OUTPUTS`; the extra is not installed; or a file
            differs from PyTorch's encoder by more than `TOLERANCE`.
    """
    _check_installed()
    if not erasers:
        raise SnceError("nothing to export: give one eraser or more")
    sources = [Source.read(Path(path)) for path in erasers]
    with built(Path(out)) as folder:
        source = pipeline_folder(str(model))
        several = plan(source, read_index(source), sources)
        for edits in several:
            kind = type(edits.plain).__name__
            if kind not in OUTPUTS:
                raise SnceError(f"{kind} cannot be exported to ONNX; {', '.join(OUTPUTS)} can")
        for edits in several:
            _write(folder / edits.name, edits)
            tokenizer = edits.name.replace("text_encoder", "tokenizer")
            shutil.copytree(source / tokenizer, folder / tokenizer, copy_function=shutil.copyfile)
        outputs = {edits.name: _names(edits) for edits in several}
        write_text(folder / "README.md", render_onnx_readme(str(model), folder, outputs))
    return Path(out)


class _Edited(nn.Module):
    """An encoder with its outputs as a tuple; what is hooked on it is exported too."""

    def __init__(self, edits: Edits) -> None:
        super().__init__()
        self.encoder = edits.plain
        self.names = _names(edits)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        output = self.encoder(input_ids, attention_mask=attention_mask, output_hidden_states=True)
        fields = dict(output.items()) | {f"hidden_states.{i}": state for i, state in enumerate(output.hidden_states)}
        return tuple(fields[name] for name in self.names)


def _names(edits: Edits) -> tuple[str, ...]:
    """Of the outputs."""
    layers = range(edits.plain.config.num_hidden_layers + 1) if any(t.reading.of_layers for t in edits.towers) else ()
    return (*OUTPUTS[type(edits.plain).__name__], *(f"hidden_states.{i}" for i in layers))


def _write(folder: Path, edits: Edits) -> None:
    """The file of one encoder, compared with PyTorch's on the concepts' names."""
    edits.plain.float()
    module = _Edited(edits).requires_grad_(False).eval()
    tokens = edits.towers[0].tokenize(["", *dict.fromkeys(c for part in edits.parts for c in part.concepts)])
    given = [tokens.ids] if tokens.mask is None else [tokens.ids, tokens.mask.long()]
    about = edits.describe()
    with ExitStack() as attached:
        for part, tower in zip(edits.parts, edits.towers, strict=True):
            attached.enter_context(_hooked(part, tower, tokens))
        folder.mkdir()
        _export(module, [tensor.to(torch.int32) for tensor in given], folder / "model.onnx", about)
        expected = module(*given)
    edits.plain.config.snce = about
    edits.plain.config.save_pretrained(folder)
    for name, a, b in zip(module.names, _run(folder / "model.onnx", given), expected, strict=True):
        difference = float((a - b).abs().max() / b.abs().max())
        if not difference <= TOLERANCE:
            raise SnceError(
                f"{name} of the ONNX file differs by {difference:.1e}, more than {TOLERANCE}; nothing written"
            )


@contextmanager
def _hooked(part: ConceptEraser, tower: TextTower, tokens: Tokens) -> Iterator[None]:
    """The edit as a hook without anything that depends on the tokens but the sums: what can be exported."""
    reading = tower.reading
    masked = reading.is_field and tower.content(tokens) is not None and tower.encode_tokens(tokens).shape[1] > 1

    def edited(_module: nn.Module, _inputs: Any, given: dict[str, Any], output: Any) -> Any:
        x = reading.take(output)
        assert x is not None  # all hidden states are asked for
        mask = given["attention_mask"].bool() if masked else None
        return reading.put(output, edit(x, part.neurons, part.begin, mask))

    handle = reading.module.register_forward_hook(edited, prepend=True, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _export(module: _Edited, given: list[Tensor], path: Path, about: dict[str, Any]) -> None:
    positions = getattr(module.encoder.config, "max_position_embeddings", None)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=positions)}
    names = ["input_ids", "attention_mask"][: len(given)]
    program = torch.onnx.export(
        module,
        # the exporter takes a size of 1 for a constant
        tuple(tensor if len(tensor) > 1 else tensor.repeat(2, 1) for tensor in given),
        input_names=names,
        output_names=list(module.names),
        dynamic_shapes=[sizes] * len(given),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props["snce"] = json.dumps(about)
    size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    program.save(path, external_data=size > LARGEST)


def _run(path: Path, given: list[Tensor]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]
    feed = {name: tensor.to(torch.int32).numpy() for name, tensor in zip(names, given, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, feed)]


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise SnceError(f'ONNX export needs {", ".join(missing)}; install them with pip install "snce[onnx]"')
