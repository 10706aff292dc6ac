"""Encoders of pipelines with several towers as ONNX: onnxruntime gives PyTorch's numbers with the eraser attached."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from snce.erase.onnx import OUTPUTS, export_onnx
from snce.errors import SnceError
from snce.text.tokens import Tokens
from tests.pipelines.rows import PROMPTS
from tests.pipelines.test_erasing import eraser_of, towers_of

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)
CLOSE = 1e-5
"""Of the largest number: ten times less than what the exporter lets pass."""


class Exported:
    def __init__(self, pipe, place, keep):
        from onnxruntime import InferenceSession

        pipe.save_pretrained(place / "model")
        self.parts = [part for part in eraser_of(pipe).parts if keep(part)]
        self.towers = {tower.place: tower for tower in towers_of(pipe)}
        for i, part in enumerate(self.parts):
            part.save(place / f"{i}.safetensors")
        self.folder = export_onnx(place / "model", list(place.glob("*.safetensors")), place / "out")
        self.name = self.parts[0].tower
        self.session = InferenceSession(self.folder / self.name / "model.onnx", providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = (
            [put.name for put in puts] for puts in (self.session.get_inputs(), self.session.get_outputs())
        )

    def tokens(self, prompts) -> Tokens:
        return self.towers[self.parts[0].place].tokenize(prompts)

    def run(self, tokens: Tokens):
        feed = {name: t.numpy().astype(np.int32) for name, t in zip(self.inputs, tokens, strict=False)}
        return {k: torch.from_numpy(v) for k, v in zip(self.outputs, self.session.run(None, feed), strict=True)}

    @torch.no_grad()
    def torch(self, tokens: Tokens, edited=True):
        mask = {} if tokens.mask is None else {"attention_mask": tokens.mask.long()}
        with ExitStack() as attached:
            for part in self.parts if edited else ():
                attached.enter_context(part.attach(self.towers[part.place]))
            output = self.towers[self.parts[0].place].encoder(tokens.ids, output_hidden_states=True, **mask)
        layers = {f"hidden_states.{i}": state for i, state in enumerate(output.hidden_states)}
        return {name: {**output, **layers}[name] for name in self.outputs}


def apart(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.fixture(scope="module")
def clip(family_pipe, tmp_path_factory):
    """The second encoder of Stable Diffusion XL, which is edited at two places."""
    place = tmp_path_factory.mktemp("clip")
    return Exported(family_pipe("StableDiffusionXLPipeline"), place, lambda part: part.tower == "text_encoder_2")


@pytest.fixture(scope="module")
def t5(family_pipe, tmp_path_factory):
    """With more weights, let us say, than go into one file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snce.erase.onnx.LARGEST", 1000)
        return Exported(family_pipe("PixArtSigmaPipeline"), tmp_path_factory.mktemp("t5"), lambda part: True)


@pytest.fixture(params=["clip", "t5"])
def exported(request):
    return request.getfixturevalue(request.param)


def test_what_the_denoiser_reads_is_edited_and_all_else_as_it_was(exported):
    tokens = exported.tokens(PROMPTS)
    plain, expected, found = exported.torch(tokens, edited=False), exported.torch(tokens), exported.run(tokens)
    edited = {name for name in exported.outputs if apart(expected[name], plain[name]) > 100 * CLOSE}
    assert edited == (
        {"text_embeds", "hidden_states.3"} if exported.name == "text_encoder_2" else {"last_hidden_state"}
    )
    for name in exported.outputs:
        assert found[name].dtype == torch.float32
        assert found[name].shape == expected[name].shape
        assert apart(found[name], expected[name]) < CLOSE
        assert apart(found[name][1], plain[name][1]) < CLOSE  # the silent prompt


def test_batch_and_length_are_free(exported):
    for prompts, length in (((PROMPTS[0],), 9), ((*PROMPTS, "rain"), 12)):
        whole = exported.tokens(prompts)
        tokens = Tokens(whole.ids[:, :length], None if whole.mask is None else whole.mask[:, :length])
        expected, found = exported.torch(tokens), exported.run(tokens)
        assert all(apart(found[name], expected[name]) < CLOSE for name in exported.outputs)


def test_the_names_are_those_of_optimum(clip, t5):
    layers = [f"hidden_states.{i}" for i in range(5)]
    assert (clip.inputs, clip.outputs) == (["input_ids"], ["text_embeds", "last_hidden_state", *layers])
    assert (t5.inputs, t5.outputs) == (["input_ids", "attention_mask"], ["last_hidden_state"])
    readme = (clip.folder / "README.md").read_text()
    assert "| `text_encoder_2.output.text_embeds` | concept |" in readme
    assert (clip.folder / "tokenizer_2" / "tokenizer_config.json").is_file()


def test_weights_too_large_for_the_format_lie_beside_the_file(clip, t5):
    import onnx

    for exported, files in ((clip, {"model.onnx"}), (t5, {"model.onnx", "model.onnx.data"})):
        folder = exported.folder / exported.name
        onnx.checker.check_model(folder / "model.onnx", full_check=True)
        assert {path.name for path in folder.iterdir()} == {"config.json", *files}


def test_language_models_are_refused(family_pipe, tmp_path):
    pipe = family_pipe("ZImagePipeline")
    pipe.save_pretrained(tmp_path / "model")
    eraser_of(pipe).save(tmp_path / "eraser.safetensors")
    with pytest.raises(SnceError, match=f"Qwen3Model cannot be exported to ONNX; {', '.join(OUTPUTS)} can"):
        export_onnx(tmp_path / "model", [tmp_path / "eraser.safetensors"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
