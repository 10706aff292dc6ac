"""SAEs to and from eai-sparsify, with eai-sparsify."""

from __future__ import annotations

import pytest
import torch
from sparsify import SparseCoder, SparseCoderConfig

from snce.errors import SnceError
from snce.sae.sparsify import load_sparsify, save_sparsify
from tests.ecosystem.coding import activations, assert_close_where, clear_of_ties, pre_activations

pytestmark = pytest.mark.ecosystem

HOOKPOINT = "text_encoder.final_layer_norm"
WIDTH, LATENTS, K = 256, 384, 12


def dense(coder: SparseCoder, x: torch.Tensor) -> torch.Tensor:
    """Activations of a sparse coder written out, [rows, m]."""
    code = coder.encode(x)
    return torch.zeros(len(x), coder.num_latents).scatter(1, code.top_indices, code.top_acts)


@torch.no_grad()
def test_sparsify_computes_what_we_exported(position_code, x, origin, tmp_path):
    save_sparsify(position_code, tmp_path / HOOKPOINT, origin)
    coders = SparseCoder.load_many(str(tmp_path), local=True)
    assert list(coders) == [HOOKPOINT]
    coder = coders[HOOKPOINT]
    clear = clear_of_ties(pre_activations(position_code, x), position_code.config.k)
    z = activations(position_code, x)
    assert_close_where(clear, dense(coder, x), z)
    assert_close_where(clear, coder(x).sae_out, z @ position_code.W_dec + position_code.b_dec)


@torch.no_grad()
def test_what_sparsify_does_to_the_decoder_in_training_leaves_an_export_as_it_is(position_code, x, origin, tmp_path):
    save_sparsify(position_code, tmp_path, origin)
    coder = SparseCoder.load_from_disk(tmp_path)
    assert coder.cfg.normalize_decoder
    before = coder(x).sae_out
    coder.set_decoder_norm_to_unit_norm()
    torch.testing.assert_close(coder(x).sae_out, before, rtol=1e-4, atol=1e-4)


def test_a_prompt_code_is_refused_for_sparsify(saes, origin, tmp_path):
    with pytest.raises(SnceError, match="prompt code"):
        save_sparsify(saes["prompt code"], tmp_path, origin)


def test_an_sae_that_sparsify_trained(embeddings, emblem_tower, x, tmp_path):
    rows = embeddings.x[embeddings.kinds != 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        coder = SparseCoder(WIDTH, SparseCoderConfig(num_latents=LATENTS, k=K))
    coder.b_dec.data.copy_(rows.mean(0))
    optimizer = torch.optim.Adam(coder.parameters(), lr=2e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(60):
        optimizer.zero_grad()
        coder(rows[torch.randint(len(rows), (512,), generator=rng)]).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        coder.set_decoder_norm_to_unit_norm()
    coder.save_to_disk(tmp_path / HOOKPOINT)
    ours, origin = load_sparsify(tmp_path / HOOKPOINT, emblem_tower, embeddings)
    origin.check(emblem_tower)
    assert origin.training["hookpoint"] == HOOKPOINT
    assert ours.config.k == K
    with torch.no_grad():
        clear = clear_of_ties(pre_activations(ours, x), K)
        assert_close_where(clear, dense(coder, x), activations(ours, x))
        assert_close_where(clear, coder(x).sae_out, ours.decode(activations(ours, x) / ours.scale))
    assert 0 < origin.metrics["fvu"] < 0.9
    assert origin.metrics["threshold_f1"] > 0.5
    # the thresholds are those of our own calibration, and belong to its latents
    fires = ours.encode(embeddings.x, embeddings.kinds).activations.amax(1) > 0
    says = ours.pre(embeddings.x, embeddings.kinds).amax(1) > ours.threshold
    assert (fires == says).float().mean() > 0.9


def test_another_activation_of_sparsify_is_refused(embeddings, emblem_tower, tmp_path):
    SparseCoder(WIDTH, SparseCoderConfig(activation="groupmax", num_latents=LATENTS, k=K)).save_to_disk(tmp_path / "a")
    SparseCoder(WIDTH, SparseCoderConfig(transcode=True, num_latents=LATENTS, k=K)).save_to_disk(tmp_path / "b")
    SparseCoder(WIDTH, SparseCoderConfig(skip_connection=True, num_latents=LATENTS, k=K)).save_to_disk(tmp_path / "c")
    for name, says in (("a", "groupmax"), ("b", "transcoder"), ("c", "linear path")):
        with pytest.raises(SnceError, match=says):
            load_sparsify(tmp_path / name, emblem_tower, embeddings)
