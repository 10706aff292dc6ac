"""SAEs as SAELens and sparsify write them, and folders of theirs that are refused or damaged."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from snce.errors import SnceError
from snce.sae.config import SAEConfig
from snce.sae.formats import load_sae, saes_in, save_sae
from snce.sae.saelens import load_saelens, save_saelens
from snce.sae.sparsify import load_sparsify, save_sparsify
from snce.text.harvest import Embeddings
from snce.text.positions import BEGIN
from tests.sae.foreign.formulas import (
    LATENTS,
    LIBRARIES,
    TOPK,
    WIDTH,
    as_saelens_codes,
    calibrated,
    written_by,
)


@pytest.fixture
def foreign(data, origin, tmp_path):
    """Rewrite a folder of SAELens as it would be with other entries and tensors, without a word of ours."""

    def make(architecture="jumprelu", tensors=(), **entries):
        save_saelens(calibrated(TOPK, data), tmp_path, origin, "topk" if architecture == "topk" else "jumprelu")
        cfg, t = written_by(tmp_path)
        del cfg["metadata"]["snce"]
        if architecture == "standard":
            del t["threshold"]
        t = {name: tensor for name, tensor in {**t, **dict(tensors)}.items() if tensor is not None}
        (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "architecture": architecture, **entries}))
        save_file(t, tmp_path / "sae_weights.safetensors")
        return tmp_path

    return make


def test_a_relu_sae_is_a_jumprelu_with_thresholds_of_zero(foreign, tower, data):
    folder = foreign("standard")
    _, t = written_by(folder)
    back, _ = load_saelens(folder, tower, data)
    pre = torch.relu((data.x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * (data.kinds != BEGIN)[..., None]
    torch.testing.assert_close(back.encode(data.x, data.kinds).activations * back.scale, pre)


def test_input_that_is_not_centred_is_folded_into_the_bias(foreign, tower, data):
    folder = foreign(apply_b_dec_to_input=False)
    _, t = written_by(folder)
    back, _ = load_saelens(folder, tower, data)
    pre = data.x @ t["W_enc"] + t["b_enc"]
    z = pre * ((pre > t["threshold"]) & (data.kinds != BEGIN)[..., None])
    torch.testing.assert_close(back.encode(data.x, data.kinds).activations * back.scale, z, rtol=1e-4, atol=1e-5)


def test_uneven_decoder_rows_are_levelled_where_that_changes_nothing(foreign, tower, data):
    rows = torch.randn(LATENTS, WIDTH, generator=torch.Generator().manual_seed(3))
    rows[7] = 0  # a latent that writes nothing
    for architecture in ("jumprelu", "topk"):
        folder = foreign(architecture, {"W_dec": rows})
        _, x_hat = as_saelens_codes(folder, data.x)
        back, _ = load_saelens(folder, tower, data)
        assert back.W_dec[6].norm().item() == pytest.approx(1 if architecture == "jumprelu" else rows[6].norm().item())
        torch.testing.assert_close(back(data.x, data.kinds)[:, 1:], x_hat[:, 1:], rtol=1e-4, atol=1e-4)


def test_a_topk_that_weighs_activations_by_decoder_norms_chooses_the_same_latents(foreign, tower, data):
    rows = torch.randn(LATENTS, WIDTH, generator=torch.Generator().manual_seed(4))
    folder = foreign("topk", {"W_dec": rows}, rescale_acts_by_decoder_norm=True)
    cfg, t = written_by(folder)
    norm = rows.norm(dim=1)
    pre = ((data.x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * norm
    top = pre.topk(cfg["k"], dim=-1)
    z = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    back, _ = load_saelens(folder, tower, data)
    torch.testing.assert_close((back.encode(data.x, data.kinds).activations * back.scale)[:, 1:], z[:, 1:],
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    torch.testing.assert_close(back(data.x, data.kinds)[:, 1:], (z / norm @ rows + t["b_dec"])[:, 1:],
                               rtol=1e-4, atol=1e-4)  # fmt: skip


def test_half_precision_files_are_read(foreign, tower, data):
    folder = foreign()
    _, t = written_by(folder)
    save_file({name: tensor.bfloat16() for name, tensor in t.items()}, folder / "sae_weights.safetensors")
    back, _ = load_saelens(folder, tower, data)
    assert back.W_enc.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "gated"}, "architecture 'gated' have no counterpart"),
        ({"architecture": "batchtopk"}, "save_inference_model"),
        ({"architecture": None}, "architecture None"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations is 'layer_norm'"),
        ({"reshape_activations": "hook_z"}, "attention heads"),
        ({"metadata": {"sae_lens_version": "5.11.0"}}, r"'5\.11\.0'"),
        ({"metadata": {"sae_lens_version": "9" * 5000}}, "SAELens 6"),
        ({"metadata": {}}, "SAELens 6"),
        ({"metadata": 7}, "SAELens 6"),
        ({"d_in": "32"}, "'d_in' is '32'"),
        ({"d_in": WIDTH + 1}, "has shape"),
        ({"d_sae": True}, "'d_sae' is True"),
        ({"d_sae": 10**15}, "has shape"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_saelens_files_that_have_no_counterpart_or_are_damaged(change, says, foreign, tower, data):
    with pytest.raises(SnceError, match=says):
        load_saelens(foreign(**change), tower, data)


def test_a_topk_with_a_senseless_k(foreign, tower, data):
    for k in (0, -1, 2.5, None, LATENTS + 1):
        with pytest.raises(SnceError, match="k"):
            load_saelens(foreign("topk", k=k), tower, data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"activation": "groupmax"}, "activation is 'groupmax'"),
        ({"transcode": True}, "transcoder"),
        ({"skip_connection": True}, "linear path"),
        ({"signed": True}, "negative activations"),
        ({"k": 0}, "'k' is 0"),
        ({"num_latents": 0, "expansion_factor": 0}, "'expansion_factor' is 0"),
        ({"num_latents": 0, "expansion_factor": 3}, "has shape"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_sparsify_files_that_have_no_counterpart_or_are_damaged(change, says, tower, data, origin, tmp_path):
    save_sparsify(calibrated(TOPK, data), tmp_path, origin)
    cfg, _ = written_by(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, **change}))
    with pytest.raises(SnceError, match=says):
        load_sparsify(tmp_path, tower, data)


def test_the_number_of_latents_may_be_given_by_the_expansion_factor(tower, data, origin, tmp_path):
    save_sparsify(calibrated(replace(TOPK, latents=2 * WIDTH), data), tmp_path, origin)
    cfg, _ = written_by(tmp_path)
    cfg.pop("num_latents")
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "expansion_factor": 2}))
    assert load_sparsify(tmp_path, tower, data)[0].config.latents == 2 * WIDTH


@pytest.mark.parametrize("library", LIBRARIES)
def test_damaged_folders(library, tower, data, origin, tmp_path):
    save, load = LIBRARIES[library]
    save(calibrated(TOPK, data), tmp_path, origin)
    cfg = (tmp_path / "cfg.json").read_text()
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()

    def complaint() -> str:
        with pytest.raises(SnceError) as caught:
            load(tmp_path, tower, data)
        return str(caught.value)

    for text in ("", "{", "[]", "7"):
        (tmp_path / "cfg.json").write_text(text)
        assert "cfg.json is damaged" in complaint()
    (tmp_path / "cfg.json").unlink()
    assert "cannot read" in complaint()
    (tmp_path / "cfg.json").write_text(cfg)
    for kept in (0, 100, len(whole) - 1):
        file.write_bytes(whole[:kept])
        assert "truncated" in complaint()
    tensors = {"W_dec": torch.zeros(LATENTS, WIDTH)}
    save_file(tensors, file)
    assert "lacks the tensor" in complaint()
    file.unlink()
    assert "no such file" in complaint()
    file.write_bytes(whole)
    tensors = {**load_file(file), "W_skip": torch.zeros(WIDTH, WIDTH)}
    save_file(tensors, file)
    assert "does not account for: W_skip" in complaint()
    tensors = load_file(file)
    del tensors["W_skip"]
    tensors["b_dec"] = tensors["b_dec"] * float("nan")
    save_file(tensors, file)
    assert "'b_dec' holds NaN" in complaint()


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_export_is_refused_for_another_text_encoder_and_any_sae_for_another_width(
    library, tower, data, origin, tmp_path
):
    save, load = LIBRARIES[library]
    save(calibrated(TOPK, data), tmp_path, replace(origin, fingerprint="f" * 16))
    with pytest.raises(SnceError, match="was trained on"):
        load(tmp_path, tower, data)
    narrow = Embeddings(data.x[..., :8], data.kinds)
    save(calibrated(SAEConfig.plain(8, latents=20, k=3), narrow), tmp_path, origin)
    with pytest.raises(SnceError, match=r"width 8; .* has width 32"):
        load(tmp_path, tower, data)


def test_the_folder_of_a_run_of_sparsify_names_its_hookpoints(tower, data, origin, tmp_path):
    for name in ("b", "a"):
        save_sparsify(calibrated(TOPK, data), tmp_path / name, origin)
    with pytest.raises(SnceError, match=r"several hookpoints.*: a, b"):
        load_sparsify(tmp_path, tower, data)


def test_our_reader_says_what_to_do_with_a_foreign_folder(data, origin, tmp_path):
    for name, (save, _) in LIBRARIES.items():
        save(calibrated(TOPK, data), tmp_path / name, origin)
        with pytest.raises(SnceError, match="another library; bring it in with `snce convert"):
            load_sae(tmp_path / name)


@pytest.mark.parametrize("library", LIBRARIES)
def test_who_looks_for_saes_of_ours_is_told_what_to_do_with_a_foreign_one(library, data, origin, tmp_path):
    folder = tmp_path / "run" / "hookpoint"
    LIBRARIES[library][0](calibrated(TOPK, data), folder, origin)
    (file,) = folder.glob("*.safetensors")
    for place in (folder, folder.parent, file):
        with pytest.raises(SnceError, match=re.escape(f"bring it in with `snce convert {folder} OUT --to snce")):
            saes_in(place)


def test_an_sae_of_ours_beside_a_foreign_one_is_not_taken_for_it(data, origin, tmp_path):
    sae = calibrated(TOPK, data)
    save_saelens(sae, tmp_path, origin)
    for file in (tmp_path / "mine.safetensors", tmp_path / "sae.safetensors"):
        save_sae(sae, file, origin)
        assert saes_in(file) == [file]
        assert load_sae(file)[0].config == sae.config
    assert saes_in(tmp_path) == [tmp_path / "sae.safetensors"]
    save_sparsify(sae, tmp_path / "export", origin)
    assert saes_in(tmp_path) == [tmp_path / "sae.safetensors"]
