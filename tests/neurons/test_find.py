"""Finding: the best neurons first, told as they are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.errors import SnceError
from snce.neurons.find import find_bytes, find_many, find_neurons, rank
from snce.neurons.scores import RULES, auroc
from snce.neurons.stats import ActivationStats
from snce.sae.config import SAEConfig
from snce.text.harvest import Embeddings
from snce.text.positions import BEGIN, END
from tests.examples import random_embeddings, random_sae
from tests.neurons.test_codes import PeakBytes, configs, part, sae_of
from tests.neurons.test_scores import pairs
from tests.neurons.test_stats import stats_of

seeds = st.integers(0, 10_000)


@given(seeds, st.sampled_from(sorted(RULES)), st.integers(1, 30))
def test_cards_come_best_first_and_tell_the_statistics(seed, rule, top):
    t, n = (stats_of(a) for a in pairs(seed))
    cards = rank(t, n, rule, top)
    scores = RULES[rule](t, n)
    assert len(cards) == min(top, 25)
    assert len({card.neuron for card in cards}) == len(cards)
    assert [card.score for card in cards] == pytest.approx(scores.sort(descending=True).values[:top].tolist())
    for card in cards:
        i = card.neuron
        told = (card.score, card.frequency_target, card.frequency_neutral, card.activation_target,
                card.activation_neutral, card.auroc)  # fmt: skip
        true = (scores[i], t.frequency[i], n.frequency[i], t.activation[i], n.activation[i], auroc(t, n)[i])
        assert told == pytest.approx(tuple(map(float, true)))
        assert card.rule == rule


def test_ties_go_to_the_lower_index():
    t, n = torch.zeros(4, 6), torch.zeros(4, 6)
    t[:, [5, 2, 4]] = 1.0
    assert [card.neuron for card in rank(stats_of(t), stats_of(n))] == [2, 4, 5, 0, 1, 3]


@pytest.mark.parametrize("support", ["prompt", "position"])
def test_a_neuron_whose_direction_was_added_to_the_target_is_found(support):
    sae = random_sae(2, SAEConfig(48, latents=40, k=6, support=support))
    sae.W_enc[:] = torch.linalg.qr(sae.W_enc.T).Q.T
    neutral, target = random_embeddings(1, n=40, d=48), random_embeddings(2, n=40, d=48)
    for latent in (3, 17, 39):
        row = sae.W_enc[latent]
        without = Embeddings(neutral.x - (neutral.x @ row + 5)[..., None] * row, neutral.kinds)
        shift = torch.where((target.kinds >= END)[..., None], 12 * row, torch.zeros(48))
        cards = find_neurons(sae, Embeddings(target.x + shift, target.kinds), without, top=3)
        assert cards[0].neuron == latent
        assert cards[0].frequency_target == 1
        assert cards[0].auroc > 0.95


def test_an_unknown_rule_and_a_silent_dictionary_are_refused():
    silent = ActivationStats(4)
    silent.update(torch.zeros(3, 4))
    with pytest.raises(SnceError, match=r"'loudest'.*modulated"):
        rank(silent, silent, "loudest")
    with pytest.raises(SnceError, match="no neuron fires"):
        rank(silent, silent)


@pytest.mark.parametrize("top", [0, -1])
def test_no_neurons_cannot_be_asked_for(top, monkeypatch):
    monkeypatch.setattr("snce.neurons.find.code_prompts", None)  # refused before the work
    some = ActivationStats(4)
    some.update(torch.ones(3, 4))
    with pytest.raises(SnceError, match=f"top is {top}"):
        rank(some, some, top=top)
    with pytest.raises(SnceError, match=f"top is {top}"):
        find_many(sae_of(SAEConfig(8, latents=24, k=4)), random_embeddings(1, n=9), {"gun": ([1], [2])}, top=top)


prompts = st.lists(st.integers(0, 59), min_size=1, max_size=40)
concepts = st.dictionaries(st.text(max_size=3), st.tuples(prompts, prompts), min_size=1, max_size=5)


@given(configs, seeds, st.sampled_from(sorted(RULES)), concepts)
def test_many_concepts_get_the_very_neurons_that_each_gets_by_itself(config, seed, rule, concepts):
    sae, data = sae_of(config, seed), random_embeddings(seed, n=60)
    found = find_many(sae, data, concepts, rule, top=7)
    assert list(found) == list(concepts)
    for name, (target, neutral) in concepts.items():
        # every figure of every card, and no rounding is forgiven
        assert found[name] == find_neurons(sae, part(data, target), part(data, neutral), rule, 7)


def test_prompts_that_no_concept_names_are_not_read():
    sae, data = sae_of(SAEConfig(8, latents=24, k=4)), random_embeddings(1, n=60)
    concepts = {"a": ([1, 2], [3, 40]), "b": ([40], [2])}
    found = find_many(sae, data, concepts)
    data.x[[i for i in range(60) if i not in (1, 2, 3, 40)]] = torch.nan
    assert find_many(sae, data, concepts) == found


def test_a_concept_on_which_nothing_fires_does_not_take_the_others_along():
    sae, data = sae_of(SAEConfig(8, latents=24, k=4)), random_embeddings(1, n=20)
    data.kinds[:3] = BEGIN  # nothing is read of these prompts
    found = find_many(sae, data, {"mute": ([0, 1], range(5, 20)), "loud": (range(5, 9), range(9, 20))})
    assert found["mute"] == []
    assert found["loud"] == find_neurons(sae, part(data, range(5, 9)), part(data, range(9, 20)))
    assert find_many(sae, data, {}) == {}


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (([], [1]), "'gun' has no target prompts"),
        (([1], []), "'gun' has no neutral prompts"),
        (([1], [0, 9]), "'gun' has neutral prompts that are none of the 9"),
        (([-1], [0]), "'gun' has target prompts that are none of the 9"),
    ],
)
def test_a_concept_without_prompts_or_with_unknown_ones_is_refused(kinds, says):
    with pytest.raises(SnceError, match=says):
        find_many(sae_of(SAEConfig(8, latents=24, k=4)), random_embeddings(1, n=9), {"gun": kinds})


def test_an_unknown_rule_is_refused_before_the_work(monkeypatch):
    monkeypatch.setattr("snce.neurons.find.code_prompts", None)
    with pytest.raises(SnceError, match="unknown rule 'loudest'"):
        find_many(sae_of(SAEConfig(8, latents=24, k=4)), random_embeddings(1, n=9), {"gun": ([1], [2])}, "loudest")


@pytest.mark.parametrize("support", ["prompt", "position"])
@pytest.mark.parametrize("many", [1, 30])
def test_many_concepts_take_no_more_memory_than_is_said(support, many):
    sae = random_sae(1, SAEConfig(32, latents=4000, k=16, support=support))
    data = random_embeddings(1, n=400, positions=77, d=32, dtype=torch.float16)
    concepts = {str(i): (range(i, i + 20), range(100, 400)) for i in range(many)}
    with PeakBytes() as memory:
        find_many(sae, data, concepts)
    assert memory.peak <= find_bytes(sae.config, 400, 77)
