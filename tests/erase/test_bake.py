"""A baked pipeline draws what the pipeline draws with the eraser attached, in every bit, and cannot lose the edit."""

import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPTextModel

from snce import load_pipeline
from snce.erase.bake import bake
from snce.erase.baked_folder import code_file, has_our_code, read_index
from snce.erase.baked_readme import render_readme
from snce.errors import SnceError
from snce.text.towers import TextTower
from tests.examples import encode, eraser_for, picture, same_bits, tiny_pipeline

EMBLEM_PROMPTS = ("a bomb", "a cigarette", "a red apple", "a dog", "a cat", "a violin")

FRESH = """
import sys
sys.modules["snce"] = None  # importing it fails
import torch
from diffusers import DiffusionPipeline
torch.set_num_threads(1)  # as here: their number decides about the last bits
folder, out, again, *prompts = sys.argv[1:]
pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True)
pipe.set_progress_bar_config(disable=True)
def draw(pipe, prompt, **more):
    rng = torch.Generator().manual_seed(0)
    return torch.from_numpy(pipe(prompt, num_inference_steps=2, generator=rng, output_type="np", **more).images)
pictures = {prompt: draw(pipe, prompt) for prompt in prompts}
pictures["negative"] = draw(pipe, prompts[-1], negative_prompt=prompts[0])
pictures["clip_skip"] = draw(pipe, prompts[0], clip_skip=1)
torch.save(pictures, out)
pipe.save_pretrained(again)
"""


def load(folder, dtype=torch.float32, **more):
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, trust_remote_code=True, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("bake")


@pytest.fixture(scope="module")
def model(place):
    """A model folder with all that must not come along, and what must."""
    folder = place / "tiny"
    tiny_pipeline(0).save_pretrained(folder)
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / "whole-checkpoint.safetensors").write_bytes(b"holds the plain encoder")
    (folder / "LICENSE.md").write_text("the licence")
    (folder / "README.md").write_text("the model's own card")
    return folder


@pytest.fixture(scope="module")
def files(place, erasers):
    for i, (eraser, _, _) in enumerate(erasers):
        eraser.save(place / f"{i}.safetensors")
    return [place / f"{i}.safetensors" for i in range(len(erasers))]


@pytest.fixture(scope="module")
def baked(place, model, files):
    return bake(model, files, place / "baked")


@pytest.fixture(scope="module")
def both(erasers):
    return erasers[0][0] | erasers[1][0]


@pytest.fixture(scope="module")
def fresh(place, baked, erasers):
    """Pictures by plain diffusers in a process of its own, to which snce is not to be had; and what that saved."""
    prompts = [*erasers[0][1], *(p for p in erasers[0][2] if p in erasers[1][2])]  # loud ones first, silent ones last
    script = [sys.executable, "-c", FRESH, str(baked), str(place / "pictures"), str(place / "again"), *prompts]
    subprocess.run(script, check=True, capture_output=True, text=True)
    return prompts, torch.load(place / "pictures", weights_only=True)


def test_plain_diffusers_draws_the_pictures_of_the_attached_eraser_without_snce(fresh, pipe, both, erasers):
    prompts, pictures = fresh
    vars(pipe.text_encoder)["text_model"] = pipe.text_encoder  # for clip_skip: not every transformers version has it
    plain = {prompt: picture(pipe, prompt) for prompt in prompts}
    with both.attach(pipe, edit_negative=True):
        for prompt in prompts:
            assert pictures[prompt].numpy().tobytes() == picture(pipe, prompt)
        negative = picture(pipe, prompts[-1], negative_prompt=prompts[0])
        assert pictures["negative"].numpy().tobytes() == negative
        assert pictures["clip_skip"].numpy().tobytes() == picture(pipe, prompts[0], clip_skip=1)
    assert pictures[prompts[-1]].numpy().tobytes() == plain[prompts[-1]]
    assert pictures[prompts[0]].numpy().tobytes() != plain[prompts[0]]
    assert negative != picture(pipe, prompts[-1], negative_prompt=prompts[0])


def test_what_the_loaded_pipeline_saves_is_the_baked_pipeline(fresh, place, baked):
    again = place / "again"
    for file in ("model_index.json", "text_encoder/config.json"):
        before, after = (json.loads((folder / file).read_text()) for folder in (baked, again))
        after.pop("_name_or_path", None)  # where it was loaded from
        assert before == after
    assert has_our_code(again)
    for file in baked.rglob("*.safetensors"):
        before, after = load_file(file), load_file(again / file.relative_to(baked))
        assert before.keys() == after.keys()
        assert all(same_bits(before[key], after[key]) for key in before)
    prompt = fresh[0][0]
    assert picture(load(again), prompt) == fresh[1][prompt].numpy().tobytes()


def test_without_trust_nothing_is_loaded(baked):
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(baked)


@pytest.mark.parametrize("kind", [CLIPTextModel, AutoModel])
def test_the_plain_encoder_class_refuses_the_edited_weights(baked, kind):
    with pytest.raises(RuntimeError, match="mismatch"):
        kind.from_pretrained(baked / "text_encoder")


def test_torch_refuses_them_too_even_when_told_to_be_lenient(baked, pipe):
    with pytest.raises(RuntimeError, match="size mismatch"):
        pipe.text_encoder.load_state_dict(load_file(baked / "text_encoder" / "model.safetensors"), strict=False)


@pytest.mark.parametrize("lost", ["snce.0.threshold", "snce.0.decoder", "encoder.layers.0.mlp.fc1.bias"])
def test_weights_that_have_lost_the_edit_are_no_model(tmp_path, baked, lost):
    folder = tmp_path / "lost"
    shutil.copytree(baked, folder)
    file = folder / "text_encoder" / "model.safetensors"
    save_file({key: tensor for key, tensor in load_file(file).items() if key != lost}, file, {"format": "pt"})
    with pytest.raises(RuntimeError, match=f"lack {lost}"):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_in_any_dtype_the_embeddings_are_those_of_the_attached_eraser(baked, model, both, erasers, dtype):
    loud = erasers[0][1]
    pipe = DiffusionPipeline.from_pretrained(model, dtype=dtype)
    with both.attach(pipe, edit_negative=True, allow_mismatch=True):
        expected = encode(pipe, loud, loud)
    cast = load(baked)
    cast.text_encoder.to(dtype)
    for other in (load(baked, dtype), load(baked, dtype, low_cpu_mem_usage=False), cast):
        assert other.text_encoder.dtype == dtype
        assert all(same_bits(a, b) for a, b in zip(encode(other, loud, loud), expected, strict=True))


def test_hidden_states_and_pooled_output_are_those_of_the_attached_eraser(baked, pipe, both):
    tokens = TextTower.from_pipeline(pipe).tokenize(["a pistol", "a hat"]).ids
    with torch.no_grad(), both.attach(pipe):
        expected = pipe.text_encoder(tokens, output_hidden_states=True)
        found = load(baked).text_encoder(tokens, output_hidden_states=True)
    assert same_bits(found.last_hidden_state, expected.last_hidden_state)
    assert same_bits(found.pooler_output, expected.pooler_output)
    assert all(same_bits(a, b) for a, b in zip(found.hidden_states, expected.hidden_states, strict=True))


def test_other_pipelines_made_from_it_and_copies_of_it_are_edited(baked, both, pipe, erasers):
    loud = erasers[0][1]
    with both.attach(pipe):
        expected = encode(pipe, loud)[0]
    loaded = load(baked)
    assert same_bits(encode(StableDiffusionImg2ImgPipeline.from_pipe(loaded), loud)[0], expected)
    assert same_bits(encode(copy.deepcopy(loaded), loud)[0], expected)


def test_all_of_it_moves_to_another_device(baked):
    encoder = load(baked).to("meta").text_encoder
    assert {t.device.type for t in (*encoder.parameters(), *encoder.buffers())} == {"meta"}


def test_gradients_flow_through_it(baked):
    encoder = load(baked).text_encoder
    encoder(torch.arange(8)[None]).last_hidden_state.sum().backward()
    assert encoder.get_input_embeddings().weight.grad.abs().sum() > 0


def test_the_folder_says_what_was_baked(baked, files, both):
    about = json.loads((baked / "text_encoder" / "config.json").read_text())["snce"]
    readme = (baked / "README.md").read_text()
    (part,) = about["parts"]
    assert part["concepts"] == list(both.concepts)
    assert part["thresholds"] == both.neurons.threshold.tolist()
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert {"file": file.name, "sha256": digest} in about["erasers"]
        assert digest in readme
    assert all(f"| {concept} |" in readme for concept in both.concepts)
    assert "Negative prompts are edited too" in readme
    assert hashlib.sha256(code_file()[1]).hexdigest() in readme


def test_the_readme_names_a_model_on_the_hub_as_its_base_and_no_folder_of_this_machine(
    tmp_path, model, files, baked, monkeypatch
):
    monkeypatch.chdir(model.parents[1])
    local = bake(f"{model.parent.name}/{model.name}", files, tmp_path / "out")  # looks like OWNER/NAME
    assert "base_model" not in (local / "README.md").read_text()
    assert "\nbase_model: alice/model\n" in render_readme("alice/model", baked, ["text_encoder"])


def test_the_folder_holds_the_model_s_files_but_no_plain_encoder_and_no_pickle(baked, model):
    assert {path.name for path in baked.iterdir()} == {
        "LICENSE.md", "README.base.md", "README.md", "model_index.json",
        "scheduler", "text_encoder", "tokenizer", "unet", "vae",
    }  # fmt: skip
    assert not list(baked.rglob("*.bin"))
    for file in model.rglob("*"):
        if file.is_file() and file.parent.name in ("scheduler", "tokenizer", "unet", "vae") and file.suffix != ".bin":
            assert (baked / file.relative_to(model)).read_bytes() == file.read_bytes()
    assert (baked / "README.base.md").read_text() == "the model's own card"


def test_snce_runs_the_code_of_a_folder_only_if_it_is_its_own(baked, place, erasers):
    prompt = erasers[0][1][0]
    assert picture(load_pipeline(str(baked)), prompt) == picture(load(baked), prompt)
    foreign = place / "foreign"
    shutil.copytree(baked, foreign)
    name = f"{code_file()[0]}.py"
    (foreign / "text_encoder" / name).write_bytes(code_file()[1] + b"\nraise SystemExit('foreign code was run')\n")
    with pytest.raises(SnceError, match="custom code"):
        load_pipeline(str(foreign))


def test_an_eraser_of_another_encoder_is_refused_and_nothing_is_written(tmp_path, model):
    eraser_for(TextTower.from_pipeline(tiny_pipeline(1)), 0)[0].save(tmp_path / "other.safetensors")
    with pytest.raises(SnceError, match="was made for a text encoder with fingerprint"):
        bake(model, [tmp_path / "other.safetensors"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["other.safetensors"]


def test_erasers_that_cannot_be_joined_are_refused(tmp_path, model, files):
    eraser_for(TextTower.from_pipeline(tiny_pipeline(1)), 0)[0].save(tmp_path / "other.safetensors")
    with pytest.raises(SnceError, match="cannot join erasers of different text encoders"):
        bake(model, [files[0], tmp_path / "other.safetensors"], tmp_path / "out")


def test_a_folder_with_other_content_is_left_as_it_is_and_an_empty_one_is_filled(tmp_path, model, files):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(SnceError, match="not an empty folder"):
        bake(model, files, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert (bake(model, files, tmp_path / "empty") / "model_index.json").is_file()


def test_what_is_baked_is_not_baked_again(tmp_path, baked, files):
    with pytest.raises(SnceError, match="baked already"):
        bake(baked, files, tmp_path / "out")


def test_emblem_baked_draws_what_emblem_draws_with_the_eraser_attached(tmp_path, emblem):
    eraser, loud, silent = eraser_for(TextTower.from_pipeline(emblem), 0, EMBLEM_PROMPTS)
    eraser.save(tmp_path / "eraser.safetensors")
    pipe = load(bake("emblem", [tmp_path / "eraser.safetensors"], tmp_path / "baked"))
    prompts = (loud[0], silent[0])
    plain = [picture(emblem, prompt) for prompt in prompts]
    with eraser.attach(emblem, edit_negative=True):
        expected = [picture(emblem, prompt) for prompt in prompts]
        negative = picture(emblem, silent[0], negative_prompt=loud[0])
    assert [picture(pipe, prompt) for prompt in prompts] == expected
    assert picture(pipe, silent[0], negative_prompt=loud[0]) == negative
    assert expected[0] != plain[0]
    assert expected[1] == plain[1]
    assert "CC-BY-4.0" in (tmp_path / "baked" / "README.base.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["", "[" * 100_000, "[]", "{}", '{"_class_name": ["mine"]}', "\ud83d"])
def test_a_damaged_index_is_one_clear_line_and_has_no_code_of_ours(tmp_path, content):
    (tmp_path / "model_index.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(SnceError, match=re.escape(str(tmp_path))):
        read_index(tmp_path)
    assert not has_our_code(tmp_path)
