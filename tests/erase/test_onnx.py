"""An exported encoder gives, in onnxruntime, the numbers of PyTorch's encoder with the eraser attached."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from snce.cli import main
from snce.erase import onnx as exporter
from snce.errors import SnceError
from snce.text.towers import TextTower
from tests.examples import PROMPTS, eraser_for, tiny_pipeline

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)
CLOSE = 1e-5
"""Of the largest number: ten times less than what the exporter lets pass, several times more than what was measured."""
EMBLEM_PROMPTS = ("a bomb", "a cigarette", "a red apple", "a dog", "a cat", "a violin")


class Exported:
    def __init__(self, folder, pipe, model, prompts):
        from onnxruntime import InferenceSession

        self.folder, self.pipe, self.prompts = folder / "onnx", pipe, list(prompts)
        self.tower = TextTower.from_pipeline(pipe)
        self.eraser, self.loud, self.silent = eraser_for(self.tower, 0, prompts)
        self.eraser.save(folder / "eraser.safetensors")
        exporter.export_onnx(model, [folder / "eraser.safetensors"], self.folder)
        self.file = self.folder / "text_encoder" / "model.onnx"
        self.session = InferenceSession(self.file, providers=["CPUExecutionProvider"])

    def run(self, tokens):
        arrays = self.session.run(None, {"input_ids": tokens.numpy().astype(np.int32)})
        return [torch.from_numpy(array) for array in arrays]

    @torch.no_grad()
    def plain(self, tokens):
        output = self.pipe.text_encoder(tokens)
        return [output.last_hidden_state, output.pooler_output]

    def edited(self, tokens):
        with self.eraser.attach(self.pipe):
            return self.plain(tokens)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    pipe = tiny_pipeline(0)
    pipe.save_pretrained(folder / "model")
    return Exported(folder, pipe, folder / "model", PROMPTS)


@pytest.fixture(scope="module")
def of_emblem(tmp_path_factory, emblem):
    return Exported(tmp_path_factory.mktemp("onnx"), emblem, "emblem", EMBLEM_PROMPTS)


@pytest.fixture(params=["tiny", "of_emblem"])
def exported(request):
    return request.getfixturevalue(request.param)


def apart(a, b):
    """Largest difference, as a share of the largest number."""
    return float((a - b).abs().max() / b.abs().max())


@needs_onnx
@pytest.mark.parametrize("n", [1, 2, 6])
def test_it_gives_the_edited_embeddings_for_any_number_of_prompts(exported, n):
    tokens = exported.tower.tokenize(exported.prompts[:n]).ids
    for found, expected in zip(exported.run(tokens), exported.edited(tokens), strict=True):
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        assert apart(found, expected) < CLOSE


@needs_onnx
def test_it_fires_on_the_same_prompts(exported):
    for prompt in exported.prompts:
        tokens = exported.tower.tokenize([prompt]).ids
        found, plain = exported.run(tokens)[0], exported.plain(tokens)[0]
        assert (apart(found, plain) > 100 * CLOSE) == (prompt in exported.loud)
        assert (apart(found, plain) < CLOSE) == (prompt in exported.silent)


@needs_onnx
def test_one_prompt_of_a_batch_does_not_touch_another(tiny):
    loud, silent = tiny.tower.tokenize([tiny.loud[0]]).ids, tiny.tower.tokenize([tiny.silent[0]]).ids
    assert apart(tiny.run(torch.cat([loud, silent]))[0][1:], tiny.run(silent)[0]) < CLOSE


@needs_onnx
def test_shorter_texts_may_come_without_padding(tiny):
    tokens = tiny.tower.tokenize(["a hat"]).ids[:, :7]
    for found, expected in zip(tiny.run(tokens), tiny.edited(tokens), strict=True):
        assert apart(found, expected) < CLOSE


@needs_onnx
def test_inputs_and_outputs_have_the_names_that_optimum_looks_for(exported):
    session = exported.session
    assert [(put.name, put.type, put.shape) for put in session.get_inputs()] == [
        ("input_ids", "tensor(int32)", ["batch", "sequence"])
    ]
    width = exported.tower.width
    assert [(put.name, put.shape) for put in session.get_outputs()] == [
        ("last_hidden_state", ["batch", "sequence", width]),
        ("pooler_output", ["batch", width]),
    ]


@needs_onnx
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_onnx_model_of_diffusers_loads_the_folder(exported):
    from diffusers import OnnxRuntimeModel

    model = OnnxRuntimeModel.from_pretrained(exported.folder / "text_encoder", provider_options=None)
    tokens = exported.tower.tokenize(exported.loud[:1]).ids
    found = model(input_ids=tokens.numpy().astype(np.int32))[0]
    assert apart(torch.from_numpy(found), exported.edited(tokens)[0]) < CLOSE


@needs_onnx
def test_the_file_is_valid_and_says_what_was_erased(exported):
    import onnx

    onnx.checker.check_model(exported.file, full_check=True)
    (told,) = [entry.value for entry in onnx.load(exported.file).metadata_props if entry.key == "snce"]
    config = json.loads((exported.folder / "text_encoder" / "config.json").read_text())
    assert json.loads(told) == config["snce"]
    (part,) = config["snce"]["parts"]
    assert part["concepts"] == list(exported.eraser.concepts)
    assert part["thresholds"] == exported.eraser.neurons.threshold.tolist()
    assert "Negative prompts are edited too" in (exported.folder / "README.md").read_text()
    assert (exported.folder / "tokenizer" / "tokenizer_config.json").is_file()


@needs_onnx
def test_a_file_that_differs_from_pytorch_is_not_kept(tiny, tmp_path, monkeypatch):
    run = exporter._run
    monkeypatch.setattr(exporter, "_run", lambda path, tokens: [t * 1.001 for t in run(path, tokens)])
    with pytest.raises(SnceError, match="differs by"):
        exporter.export_onnx(
            tiny.folder.parent / "model", [tiny.folder.parent / "eraser.safetensors"], tmp_path / "out"
        )
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_the_command_refuses_an_eraser_of_another_model(tiny, tmp_path, capsys):
    eraser = str(tiny.folder.parent / "eraser.safetensors")
    assert main(["export-onnx", "emblem", "--eraser", eraser, "--out", str(tmp_path / "out")]) == 2
    assert "was made for a text encoder with fingerprint" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_without_the_extra_the_error_names_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SnceError, match=r'pip install "snce\[onnx\]"'):
        exporter.export_onnx("emblem", [tmp_path / "eraser.safetensors"], tmp_path / "out")
