"""SAEs in the files of SAELens and sparsify, without these libraries: what their formulas make of our files, and that
it comes back. tests/ecosystem has the same with the libraries themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from snce.errors import SnceError
from snce.neurons.find import find_neurons
from snce.sae.config import TrainConfig
from snce.sae.formats import load_sae, save_sae
from snce.sae.saelens import load_saelens, save_saelens
from snce.sae.sparsify import save_sparsify
from snce.sae.train import train_sae
from snce.text.harvest import Embeddings
from snce.text.positions import BEGIN
from tests.examples import random_sae
from tests.sae.foreign.formulas import (
    BATCHTOPK,
    CODES,
    JUMPRELU,
    LATENTS,
    LIBRARIES,
    PROMPT_CODE,
    TOPK,
    as_saelens_codes,
    calibrated,
    written_by,
)

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
