"""SAEs to and from SAELens, with SAELens."""

from __future__ import annotations

import pytest
import torch
from sae_lens import (
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)
from sae_lens.saes.sae import TrainStepInput

from snce.erase.build import build_eraser
from snce.neurons.find import find_neurons
from snce.sae.saelens import load_saelens, save_saelens
from tests.ecosystem.coding import (
    activations,
    assert_close_where,
    clear_of_thresholds,
    clear_of_ties,
    pre_activations,
)

pytestmark = pytest.mark.ecosystem

WIDTH, LATENTS, K = 256, 384, 12


# -- ours, loaded by SAELens -------------------------------------------------------------------------------------------


def is_exact(sae) -> bool:
    return sae.config.support == "position" and sae.config.activation == "topk"


@torch.no_grad()
def test_saelens_computes_what_we_exported(ours, x, origin, tmp_path):
    save_saelens(ours, tmp_path, origin)
    theirs = SAE.load_from_disk(tmp_path)
    assert theirs.cfg.architecture() == ("topk" if is_exact(ours) else "jumprelu")
    pre = pre_activations(ours, x)
    if is_exact(ours):
        z, clear = activations(ours, x), clear_of_ties(pre, ours.config.k)
    else:
        bar = ours.threshold * ours.scale
        z, clear = pre * (pre > bar), clear_of_thresholds(pre, bar)
    assert (z > 0).any()
    assert_close_where(clear, theirs.encode(x), z)
    assert_close_where(clear, theirs(x), z @ ours.W_dec + ours.b_dec)


@torch.no_grad()
def test_either_position_code_as_topk_is_what_our_own_encode_gives(position_code, x, origin, tmp_path):
    save_saelens(position_code, tmp_path, origin, "topk")
    theirs = SAE.load_from_disk(tmp_path)
    clear = clear_of_ties(pre_activations(position_code, x), position_code.config.k)
    assert_close_where(clear, theirs.encode(x), activations(position_code, x))


@torch.no_grad()
def test_the_export_of_a_prompt_code_detects_as_our_neurons_do(ours, embeddings, origin, tmp_path):
    save_saelens(ours, tmp_path, origin, "jumprelu")
    theirs = SAE.load_from_disk(tmp_path)
    highest = ours.pre(embeddings.x, embeddings.kinds).amax(1)
    clear = (highest - ours.threshold).abs() > 1e-4
    detected = theirs.encode(embeddings.x[:, 1:]).amax(1)  # begin-of-text is left out
    fires = highest > ours.threshold
    assert clear.float().mean() > 0.99
    assert torch.equal((detected > 0)[clear], fires[clear])
    both = fires & clear
    torch.testing.assert_close(detected[both], (ours.scale * highest)[both], rtol=1e-4, atol=5e-4)


def test_saelens_takes_the_file_for_one_of_its_current_format(ours, origin, tmp_path):
    save_saelens(ours, tmp_path, origin)
    cfg = SAE.load_from_disk(tmp_path).cfg
    assert (cfg.d_in, cfg.d_sae, cfg.apply_b_dec_to_input) == (WIDTH, ours.config.latents, True)
    # one that it takes for an old format loses its metadata
    assert cfg.metadata.hook_name == "text_encoder.final_layer_norm"
    assert cfg.metadata.snce["fingerprint"] == origin.fingerprint


def test_an_export_that_saelens_saved_again_comes_back(ours, embeddings, emblem_tower, origin, tmp_path):
    save_saelens(ours, tmp_path / "a", origin)
    SAE.load_from_disk(tmp_path / "a").save_model(tmp_path / "b")
    first, _ = load_saelens(tmp_path / "a", emblem_tower, embeddings)
    again, _ = load_saelens(tmp_path / "b", emblem_tower, embeddings)
    assert first.config == again.config
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


# -- theirs, loaded by us ----------------------------------------------------------------------------------------------


@torch.no_grad()
def randomise(sae):
    """Nothing at its initial value, decoder rows of unequal norm, biases of the size of the embeddings'."""
    rng = torch.Generator().manual_seed(5)
    for name, tensor in sae.named_parameters():
        tensor.copy_(torch.randn(tensor.shape, generator=rng) * {"W_enc": 0.1, "W_dec": 0.1}.get(name, 0.3))
    if hasattr(sae, "threshold"):
        sae.threshold.abs_()
    return sae


MADE_BY_SAELENS = {
    "standard": lambda: StandardSAE(StandardSAEConfig(WIDTH, LATENTS)),
    "jumprelu": lambda: JumpReLUSAE(JumpReLUSAEConfig(WIDTH, LATENTS)),
    "jumprelu, not centred": lambda: JumpReLUSAE(JumpReLUSAEConfig(WIDTH, LATENTS, apply_b_dec_to_input=False)),
    "topk": lambda: TopKSAE(TopKSAEConfig(WIDTH, LATENTS, k=K)),
    "topk, rescaled": lambda: TopKSAE(TopKSAEConfig(WIDTH, LATENTS, k=K, rescale_acts_by_decoder_norm=True)),
}


@pytest.mark.parametrize("kind", MADE_BY_SAELENS)
@torch.no_grad()
def test_we_compute_what_saelens_computes(kind, embeddings, emblem_tower, x, tmp_path):
    theirs = randomise(MADE_BY_SAELENS[kind]())
    theirs.save_model(tmp_path)
    ours, told = load_saelens(tmp_path, emblem_tower, embeddings)
    told.check(emblem_tower)
    pre = pre_activations(ours, x)
    if kind.startswith("topk"):
        clear = clear_of_ties(pre, K)
    else:
        clear = clear_of_thresholds(pre[:, :LATENTS], ours.threshold * ours.scale)
    norm = 1 if kind == "topk" else theirs.W_dec.norm(dim=1)  # the unit of our activations is a decoder row of length 1
    if kind == "topk, rescaled":
        norm = 1  # and so is theirs
    if kind == "standard":
        clear[:] = True  # an activation of zero, this side or that, is no activation
    assert_close_where(clear, theirs.encode(x) * norm, activations(ours, x))
    assert_close_where(clear, theirs(x), ours.decode(activations(ours, x) / ours.scale))


def test_an_sae_that_saelens_trained_with_batchtopk(embeddings, emblem_tower, x, tmp_path):
    # its threshold is a running average that starts from zero: after a short run at the usual rate, it still is near it
    config = BatchTopKTrainingSAEConfig(WIDTH, LATENTS, k=K, topk_threshold_lr=0.2)
    rows = embeddings.x[embeddings.kinds != 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = BatchTopKTrainingSAE(config)
    theirs.b_dec.data.copy_(rows.mean(0))
    optimizer = torch.optim.Adam(theirs.parameters(), lr=2e-3)
    rng = torch.Generator().manual_seed(0)
    for step in range(60):
        batch = rows[torch.randint(len(rows), (512,), generator=rng)]
        told = TrainStepInput(batch, {}, None, step, is_logging_step=False)
        optimizer.zero_grad()
        theirs.training_forward_pass(told).loss.backward()
        optimizer.step()
    theirs.save_inference_model(tmp_path)
    ours, origin = load_saelens(tmp_path, emblem_tower, embeddings)
    assert ours.config.activation == "jumprelu"
    inference = SAE.load_from_disk(tmp_path)
    with torch.no_grad():
        clear = clear_of_thresholds(pre_activations(ours, x), ours.threshold * ours.scale)
        assert_close_where(clear, inference(x), ours.decode(activations(ours, x) / ours.scale))
    assert 0 < origin.metrics["fvu"] < 0.9  # it learned something, and the import says how much


# -- and used ----------------------------------------------------------------------------------------------------------


def test_the_neuron_of_a_concept_is_found_in_an_sae_from_saelens(violin, embeddings, emblem_tower, origin, tmp_path):
    """By way of SAELens' own saving, so that nothing of ours is left in the folder but the numbers."""
    save_saelens(violin.sae, tmp_path / "out", origin)
    theirs = SAE.load_from_disk(tmp_path / "out")
    del theirs.cfg.metadata.snce
    theirs.save_model(tmp_path / "theirs")
    sae, _ = load_saelens(tmp_path / "theirs", emblem_tower, embeddings)
    cards = find_neurons(sae, *violin.rank)[:1]
    eraser = build_eraser("violin", sae, cards, emblem_tower, *violin.test)
    entry = eraser.card["violin"]["neurons"][0]
    assert entry["recall"] > 0.9
    assert entry["false_fires"] < 0.1
    # and the eraser keeps the promise, whoever trained the SAE
    neutral = violin.test[1].x
    silent = eraser.activations(neutral)[:, 0] <= eraser.neurons.threshold[0]
    assert torch.equal(eraser.edit(neutral[silent]), neutral[silent])
