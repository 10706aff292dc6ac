"""SAEs in the files of SAELens and sparsify, without these libraries: what their formulas, written out here, make of
our files; that it comes back; and what is refused. tests/ecosystem has the same with the libraries themselves."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from snce.errors import SnceError
from snce.neurons.find import find_neurons
from snce.sae.formats import SAEOrigin, load_sae, save_sae
from snce.sae.model import SAEConfig
from snce.sae.saelens import load_saelens, save_saelens
from snce.sae.sparsify import load_sparsify, save_sparsify
from snce.sae.thresholds import calibrate_thresholds
from snce.sae.train import TrainConfig, train_sae
from snce.text.harvest import Embeddings, harvest
from snce.text.positions import BEGIN
from tests.examples import PROMPTS, random_sae

WIDTH, LATENTS, K = 32, 48, 5
TOPK = SAEConfig.plain(WIDTH, latents=LATENTS, k=K)
BATCHTOPK = replace(TOPK, activation="batchtopk")
JUMPRELU = replace(TOPK, activation="jumprelu")
PROMPT_CODE = SAEConfig(WIDTH, latents=LATENTS, k=K)
LIBRARIES = {"SAELens": (save_saelens, load_saelens), "sparsify": (save_sparsify, load_sparsify)}


@pytest.fixture(scope="module")
def data(tower) -> Embeddings:
    return harvest(tower, [f"{a} {b}" for a in PROMPTS for b in ("", "x", "y z")])


@pytest.fixture(scope="module")
def origin(tower) -> SAEOrigin:
    return SAEOrigin(tower.fingerprint, tower.name, tower.path, tower.pipeline, {"steps": 5}, {"fvu": 0.25})


def calibrated(config: SAEConfig, data: Embeddings, seed: int = 0):
    """A random SAE with thresholds that mean something on `data`."""
    sae = random_sae(seed, replace(config, activation="topk") if config.activation == "jumprelu" else config)
    calibrate_thresholds(sae, data)
    # prompts that begin alike share activations, and a bar between two equal ones is one of them: rounding would decide
    sae.threshold *= 1 + 1e-4
    sae.config = config
    return sae


def written_by(folder):
    name = "sae_weights.safetensors" if (folder / "sae_weights.safetensors").exists() else "sae.safetensors"
    return json.loads((folder / "cfg.json").read_text()), load_file(folder / name)


def as_saelens_codes(folder, x):
    """(activations, reconstructions) of embeddings [..., d] by SAELens' formulas."""
    cfg, t = written_by(folder)
    assert cfg["normalize_activations"] == "none"
    assert cfg["apply_b_dec_to_input"] is True
    pre = (x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    if cfg["architecture"] == "topk":
        top = pre.topk(cfg["k"], dim=-1)
        z = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    else:
        assert cfg["architecture"] == "jumprelu"
        z = pre.relu() * (pre > t["threshold"])
    return z, z @ t["W_dec"] + t["b_dec"]


def as_sparsify_codes(folder, x):
    cfg, t = written_by(folder)
    assert not cfg["transcode"]
    pre = torch.relu((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"])
    top = pre.topk(cfg["k"], dim=-1)
    z = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
    return z, z @ t["W_dec"] + t["b_dec"]


CODES = {"SAELens": as_saelens_codes, "sparsify": as_sparsify_codes}


# -- out ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TOPK, BATCHTOPK], ids=["topk", "batchtopk"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_position_code_means_the_same_in_the_other_library(config, library, data, origin, tmp_path):
    sae = calibrated(config, data)
    options = {"activation": "topk"} if library == "SAELens" else {}
    LIBRARIES[library][0](sae, tmp_path, origin, **options)
    z, x_hat = CODES[library](tmp_path, data.x)
    content = data.kinds != BEGIN
    ours = sae.encode(data.x, data.kinds).activations
    torch.testing.assert_close(z[content], (sae.scale * ours)[content])
    torch.testing.assert_close(x_hat[content], sae.decode(ours)[content])


@pytest.mark.parametrize("config", [PROMPT_CODE, BATCHTOPK, JUMPRELU, TOPK])
def test_a_jumprelu_keeps_what_passes_our_thresholds(config, data, origin, tmp_path):
    sae = calibrated(config, data)
    save_saelens(sae, tmp_path, origin, "jumprelu")
    z, x_hat = as_saelens_codes(tmp_path, data.x)
    content = data.kinds != BEGIN
    pre = sae.pre(data.x, data.kinds)
    kept = pre * (pre > sae.threshold)
    torch.testing.assert_close(z[content], (sae.scale * kept)[content])
    torch.testing.assert_close(x_hat[content], sae.decode(kept)[content])
    assert 0 < (kept > 0).float().mean() < 0.5


def test_the_export_of_a_prompt_code_fires_in_the_prompts_in_which_the_neuron_passes_its_threshold(
    data, origin, tmp_path
):
    sae = calibrated(PROMPT_CODE, data)
    save_saelens(sae, tmp_path, origin)
    z, _ = as_saelens_codes(tmp_path, data.x)
    exported = z.masked_fill((data.kinds == BEGIN)[..., None], 0).amax(1) / sae.scale
    highest = sae.pre(data.x, data.kinds).amax(1)
    fires = highest > sae.threshold
    assert torch.equal(exported > 0, fires)
    torch.testing.assert_close(exported[fires], highest[fires])


@pytest.mark.parametrize(
    ("config", "architecture"), [(TOPK, "topk"), (BATCHTOPK, "jumprelu"), (PROMPT_CODE, "jumprelu")]
)
def test_saelens_gets_the_architecture_that_matches_and_the_version_without_which_it_misreads(
    config, architecture, data, origin, tmp_path
):
    save_saelens(calibrated(config, data), tmp_path, origin)
    cfg, tensors = written_by(tmp_path)
    assert cfg["architecture"] == architecture
    assert ("threshold" in tensors) is (architecture == "jumprelu")
    assert int(cfg["metadata"]["sae_lens_version"].split(".")[0]) >= 6
    assert cfg["metadata"]["hook_name"] == "text_encoder.final_layer_norm"
    assert cfg["metadata"]["snce"]["fingerprint"] == origin.fingerprint


def test_decoder_rows_stay_unit_vectors_which_sparsify_would_restore_in_training(data, origin, tmp_path):
    for name, (save, _) in LIBRARIES.items():
        save(calibrated(TOPK, data), tmp_path / name, origin)
        cfg, tensors = written_by(tmp_path / name)
        torch.testing.assert_close(tensors["W_dec"].norm(dim=1), torch.ones(LATENTS))
        assert cfg.get("normalize_decoder", True) is True
    uneven = calibrated(TOPK, data)
    uneven.W_dec[0] *= 2
    save_sparsify(uneven, tmp_path / "uneven", origin)
    assert written_by(tmp_path / "uneven")[0]["normalize_decoder"] is False


def test_what_another_library_cannot_represent_is_refused_and_nothing_is_written(data, origin, tmp_path):
    prompt_code = calibrated(PROMPT_CODE, data)
    for save in (lambda: save_sparsify(prompt_code, tmp_path, origin),
                 lambda: save_saelens(prompt_code, tmp_path, origin, "topk")):  # fmt: skip
        with pytest.raises(SnceError, match=r"prompt code.*SAELens as jumprelu"):
            save()
    jumprelu = calibrated(JUMPRELU, data)
    for save in (lambda: save_sparsify(jumprelu, tmp_path, origin),
                 lambda: save_saelens(jumprelu, tmp_path, origin, "topk")):  # fmt: skip
        with pytest.raises(SnceError, match="is a jumprelu"):
            save()
    for config in (PROMPT_CODE, BATCHTOPK):
        with pytest.raises(SnceError, match="no calibrated thresholds"):
            save_saelens(random_sae(0, config), tmp_path, origin)
    with pytest.raises(SnceError, match="unknown activation"):
        save_saelens(prompt_code, tmp_path, origin, "relu")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_topk_comes_back_with_its_reconstructions_and_its_activations_in_a_new_unit(
    library, tower, data, origin, tmp_path
):
    save, load = LIBRARIES[library]
    sae = calibrated(TOPK, data)
    save(sae, tmp_path, origin)
    back, told = load(tmp_path, tower, data)
    assert back.config == TOPK
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    there, here = (s.encode(data.x, data.kinds).activations for s in (sae, back))
    torch.testing.assert_close(here * back.scale, there * sae.scale)
    torch.testing.assert_close(back.decode(here), sae.decode(there))
    # the thresholds are those that calibration gives, in the new unit
    torch.testing.assert_close(back.threshold * back.scale, sae.threshold * sae.scale, rtol=1e-3, atol=1e-5)
    assert told.metrics["threshold_f1"] > 0.5
    told.check(tower)


def test_a_jumprelu_comes_back_with_its_own_thresholds(tower, data, origin, tmp_path):
    sae = calibrated(PROMPT_CODE, data)
    save_saelens(sae, tmp_path, origin)
    back, told = load_saelens(tmp_path, tower, data)
    assert (back.config.support, back.config.activation) == ("position", "jumprelu")
    torch.testing.assert_close(back.threshold * back.scale, sae.threshold * sae.scale)
    pre = sae.pre(data.x, data.kinds)
    activations = back.encode(data.x, data.kinds).activations
    torch.testing.assert_close(activations * back.scale, pre * (pre > sae.threshold) * sae.scale)
    assert back.config.k == round(told.metrics["l0"])
    assert "threshold_f1" not in told.metrics


def test_prompts_without_content_have_no_say_in_the_figures_of_an_imported_sae(tower, data, origin, tmp_path):
    save_saelens(calibrated(JUMPRELU, data), tmp_path, origin)
    figures = load_saelens(tmp_path, tower, data)[1].metrics
    mute = torch.full_like(data.kinds[:1], BEGIN)
    more = Embeddings(torch.cat([data.x, data.x[:1]]), torch.cat([data.kinds, mute]))
    assert load_saelens(tmp_path, tower, more)[1].metrics == figures


def test_an_imported_sae_has_the_unit_that_training_would_have_given_it(tower, data, origin, tmp_path):
    trained, metrics = train_sae(data, TOPK, TrainConfig(steps=30, batch=8, held_out=0))
    save_saelens(trained, tmp_path, origin)
    back, told = load_saelens(tmp_path, tower, data)
    # b_dec moved a little since the unit was taken
    torch.testing.assert_close(back.scale, trained.scale, rtol=0.1, atol=0)
    x_hat = trained(data.x, data.kinds)
    torch.testing.assert_close(back(data.x, data.kinds)[:, 1:], x_hat[:, 1:], rtol=1e-3, atol=1e-4)
    assert 0 < told.metrics["fvu"] < 1.5 * metrics.fvu + 0.1


def test_our_format_holds_an_imported_sae(tower, data, origin, tmp_path):
    save_saelens(calibrated(BATCHTOPK, data), tmp_path / "theirs", origin)
    back, told = load_saelens(tmp_path / "theirs", tower, data)
    save_sae(back, tmp_path / "ours", told)
    again, told_again = load_sae(tmp_path / "ours")
    assert vars(told_again) == vars(told)
    assert torch.equal(again.encode(data.x, data.kinds).activations, back.encode(data.x, data.kinds).activations)
    assert find_neurons(again, *data.halves(), "modulated", top=3)


def test_a_jumprelu_codes_positions_and_is_not_trained_here(data):
    with pytest.raises(SnceError, match="must be 'position'"):
        replace(PROMPT_CODE, activation="jumprelu")
    with pytest.raises(SnceError, match="imported, not trained"):
        train_sae(data, JUMPRELU, TrainConfig(steps=1))


# -- what others write -------------------------------------------------------------------------------------------------


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
