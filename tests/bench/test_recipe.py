"""The recipe of a method: the same for the same, whatever process; another for other settings, weights or functions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snce.bench.ablations import ABLATIONS
from snce.bench.lineup import METHODS, with_setting
from snce.bench.methods.ablation import ConceptAblation
from snce.bench.methods.neurons import SNCE
from snce.bench.methods.rece import RECE
from snce.bench.methods.saeuron_sae import Sampling, UNetSAE
from snce.bench.methods.uce import UCE
from snce.bench.recipe import recipe
from snce.emblem.concepts import counterpart
from snce.sae.config import SAEConfig
from snce.sae.metrics import SAEMetrics
from tests.examples import random_eraser, random_sae

SAE = random_sae(0, SAEConfig(8, latents=16, k=2))


class Shop:
    """A workshop with one SAE for all."""

    sae = large_sae = plain_sae = SAE
    unet_sae = UNetSAE(SAE, "up_blocks.0", Sampling())


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_recipes_without_addresses_in_memory_that_tell_their_settings(name):
    one, two = (METHODS[name](Shop()) for _ in range(2))
    assert recipe(one) == recipe(two)
    assert "0x" not in recipe(one)
    if one.knob:
        assert len({recipe(with_setting(one, value)) for value in one.knob.grid}) == len(one.knob.grid)


def test_ablations_of_one_sae_differ_in_their_recipes():
    of_one_sae = ("score rule", "positions edited", "strength", "direction", "amount", "neurons")
    found = {n: recipe(make(Shop())) for n, make in ABLATIONS.items() if n.split(":")[0] in of_one_sae}
    assert len(set(found.values())) == len(found) > 15


def test_what_is_inside_counts():
    other = random_sae(1, SAE.config)
    assert recipe(SNCE(SAE)) == recipe(SNCE(random_sae(0, SAE.config))) != recipe(SNCE(other))
    assert recipe(RECE(UCE(erase_weight=1.0))) != recipe(RECE(UCE(erase_weight=2.0)))
    assert recipe(ConceptAblation(anchor=counterpart)) != recipe(ConceptAblation())
    assert recipe(random_eraser(0)) == recipe(random_eraser(0)) != recipe(random_eraser(1))


def test_what_changes_nothing_does_not_count():
    assert recipe(ConceptAblation(progress=True)) == recipe(ConceptAblation())
    measured = replace(Shop.unet_sae, metrics=SAEMetrics(0.1, 2.0, 0.0))
    assert recipe(measured) == recipe(Shop.unet_sae)
