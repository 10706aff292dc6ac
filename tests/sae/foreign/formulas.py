"""What SAELens and sparsify make of our folders, by their formulas."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from snce.sae.config import SAEConfig
from snce.sae.saelens import load_saelens, save_saelens
from snce.sae.sparsify import load_sparsify, save_sparsify
from snce.sae.thresholds import calibrate_thresholds
from tests.examples import random_sae

if TYPE_CHECKING:
    from snce.text.harvest import Embeddings

WIDTH, LATENTS, K = 32, 48, 5
TOPK = SAEConfig.plain(WIDTH, latents=LATENTS, k=K)
BATCHTOPK = replace(TOPK, activation="batchtopk")
JUMPRELU = replace(TOPK, activation="jumprelu")
PROMPT_CODE = SAEConfig(WIDTH, latents=LATENTS, k=K)
LIBRARIES = {"SAELens": (save_saelens, load_saelens), "sparsify": (save_sparsify, load_sparsify)}


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
