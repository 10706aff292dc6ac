"""From an autoencoder and its neuron to an eraser."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.erase.build import build_eraser, neurons_of
from snce.erase.edit import activations, amounts, prompt_activation
from snce.erase.eraser import ConceptEraser
from snce.neurons.find import find_neurons
from snce.sae.config import SAEConfig
from snce.text.harvest import Embeddings, harvest
from snce.text.positions import BEGIN, KINDS, PADDING, WORD
from tests.examples import PROMPTS, random_embeddings, random_sae, same_bits


@given(st.integers(0, 10_000), st.sampled_from(("prompt", "position")))
def test_a_neuron_on_its_own_activates_as_in_the_autoencoder(seed, support):
    sae = random_sae(seed, SAEConfig(8, latents=12, k=3, support=support))
    data = random_embeddings(seed)
    neurons = neurons_of(sae, [5, 2], 1.5)
    pre = sae.pre(data.x, data.kinds)
    torch.testing.assert_close(activations(data.x, neurons).relu(), pre[..., [5, 2]], rtol=1e-5, atol=1e-5)
    assert neurons.strength.tolist() == [1.5, 1.5]
    assert neurons.whole_prompt.tolist() == [support == "prompt"] * 2


def test_neurons_do_not_change_with_the_autoencoder_that_they_came_from():
    sae = random_sae(1, SAEConfig(8, latents=12, k=3))
    neurons = neurons_of(sae, [5], 1.0)
    before = [t.clone() for t in neurons]
    for value in (*sae.parameters(), *sae.buffers()):
        value.zero_()
    assert all(same_bits(t, u) for t, u in zip(neurons, before, strict=True))


@pytest.mark.parametrize("support", ["prompt", "position"])
def test_an_eraser_fires_as_often_as_its_card_says_and_attaches(shared_pipe, tower, tmp_path, support):
    target = harvest(tower, [p for p in PROMPTS if p.startswith("a")])
    neutral = harvest(tower, [p for p in PROMPTS if not p.startswith("a")])
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16, support=support))
    cards = find_neurons(sae, target, neutral, top=1)
    eraser = build_eraser("indefinite", sae, cards, tower, target, neutral)
    entry = eraser.card["indefinite"]["neurons"][0]
    assert entry["neuron"] == cards[0].neuron
    for data, share in ((target, entry["recall"]), (neutral, entry["false_fires"])):
        fires = prompt_activation(data.x, eraser.neurons) > eraser.neurons.threshold
        assert fires.double().mean().item() == pytest.approx(share)
        changed = (eraser.edit(data.x) != data.x).any(-1).any(-1)
        assert torch.equal(changed, fires[:, 0])
    eraser.check(tower)
    eraser.save(tmp_path / "e.safetensors")
    with ConceptEraser.load(tmp_path / "e.safetensors").attach(shared_pipe):
        assert same_bits(tower.encode(PROMPTS, edited=True), eraser.edit(tower.encode(PROMPTS)))


def test_an_eraser_of_many_neurons_joined_with_itself_is_itself_and_attaches_as_it_edits(shared_pipe, tower):
    target, neutral = harvest(tower, PROMPTS[:4]), harvest(tower, PROMPTS[4:])
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16))
    cards = find_neurons(sae, target, neutral, top=5)
    eraser = build_eraser("half", sae, cards, tower, target, neutral)
    assert all(same_bits(t, u) for t, u in zip(eraser.neurons, (eraser | eraser).neurons, strict=True))
    plain = tower.encode(PROMPTS)
    assert not same_bits(eraser.edit(plain), plain)
    with eraser.attach(shared_pipe):
        assert same_bits(tower.encode(PROMPTS, edited=True), eraser.edit(plain))


def test_the_entries_on_the_card_are_in_the_order_of_the_neurons(tower):
    target, neutral = harvest(tower, PROMPTS[:4]), harvest(tower, PROMPTS[4:])
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16))
    cards = find_neurons(sae, target, neutral, top=9)
    parts = [build_eraser("half", sae, cards[i:j], tower, target, neutral) for i, j in ((0, 3), (2, 6), (6, 7))]
    other = build_eraser("other", sae, cards[3:9], tower, neutral, target)
    joined = parts[2] | other | parts[0] | parts[1]
    for eraser in (*parts, joined):
        for concept, entry in eraser.card.items():
            rows = [i for i, name in enumerate(eraser.concepts) if name == concept]
            alone = neurons_of(sae, [told["neuron"] for told in entry["neurons"]], 1.0)
            assert same_bits(eraser.neurons.encoder[rows], alone.encoder)
            told = torch.tensor([told["threshold"] for told in entry["neurons"]])
            assert same_bits(eraser.neurons.threshold[rows], told)
    assert {told["neuron"] for told in joined.card["half"]["neurons"]} == {card.neuron for card in cards[:7]}


def test_for_an_encoder_without_begin_of_text_the_first_position_counts(tower):
    target, neutral = harvest(tower, PROMPTS[:4]), harvest(tower, PROMPTS[4:])
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16))
    assert (target.kinds[:, 0] == BEGIN).all()
    words = []
    for data in (target, neutral):
        kinds = data.kinds.clone()
        kinds[:, 0] = WORD
        words.append(Embeddings(data.x, kinds))
    cards = find_neurons(sae, *words, top=3)
    with_begin = build_eraser("half", sae, cards, tower, target, neutral)
    bare = copy.copy(tower)
    bare.template = ([], tower.template[1])
    without = build_eraser("half", sae, cards, bare, *words)
    assert (with_begin.begin, without.begin) == (1, 0)
    x = torch.cat([data.x for data in words])
    assert same_bits(with_begin.edit(x)[:, 0], x[:, 0])
    loud = without.with_strength(1.0)
    loud = replace(loud, neurons=loud.neurons._replace(threshold=torch.zeros(3)))
    assert not same_bits(loud.edit(x)[:, 0], x[:, 0])
    torch.testing.assert_close(
        loud.activations(x), sae.pre(x, torch.full(x.shape[:2], WORD))[..., rows_of(loud)].amax(1)
    )


def rows_of(eraser):
    """Latents of an eraser of one concept."""
    return [told["neuron"] for entry in eraser.card.values() for told in entry["neurons"]]


@torch.no_grad()
def excess_of(eraser, target, neutral):
    """What fired positions of edited target prompts have beyond the mean of neutral ones of their kind; their weights,
    by which words, end and padding count alike; and the amounts taken out. [p, d], [p, 1], [p, n]. Positions of a kind
    that neutral prompts lack are left out."""
    taken = amounts(activations(target.x, eraser.neurons), eraser.neurons)
    edited, parts = eraser.edit(target.x), []
    for kind in KINDS:
        here = target.kinds == kind
        usual = neutral.x[neutral.kinds == kind]
        if len(usual) == 0:
            continue
        rest = edited[here] - usual.mean(0)
        parts.append((rest, torch.full_like(rest[:, :1], 1 / len(rest)), taken[here]))
    rest, weight, amount = (torch.cat(part).double() for part in zip(*parts, strict=True))
    return rest, weight, amount


@pytest.mark.parametrize("levelled", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_no_other_directions_leave_less_of_what_target_prompts_have_beyond_neutral_ones(tower, levelled, n):
    """The normal equations of least squares: at strength 1 what is left does not depend on the amounts any more."""
    target, neutral = harvest(tower, PROMPTS[:4]), harvest(tower, PROMPTS[4:])
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16))
    cards = find_neurons(sae, target, neutral, top=n)
    eraser = build_eraser("half", sae, cards, tower, target, neutral, strength=1.0, levelled=levelled)
    assert_nothing_to_gain(eraser, target, neutral)


def assert_nothing_to_gain(eraser, target, neutral):
    rest, weight, amount = excess_of(eraser, target, neutral)
    assert (amount > 0).any(0).all()
    before = excess_of(eraser.with_strength(0.0), target, neutral)[0]
    scale = (weight * amount).T @ before
    assert ((weight * amount).T @ rest).norm() < 1e-4 * scale.norm()
    assert (weight * rest.square()).sum() < (weight * before.square()).sum()


@pytest.mark.parametrize("support", ["position", "prompt"])
@pytest.mark.parametrize("n", [1, 3])
def test_where_all_neutral_prompts_are_cut_the_padding_of_target_prompts_is_left_out_of_the_fit(tower, support, n):
    target = harvest(tower, PROMPTS[:4])
    with pytest.warns(UserWarning, match="truncated to 16 tokens"):
        neutral = harvest(tower, [f"{prompt} that goes on and on" for prompt in PROMPTS[4:]])
    assert (target.kinds == PADDING).any()
    assert not (neutral.kinds == PADDING).any()
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16, support=support))
    cards = find_neurons(sae, target, neutral, top=n)
    eraser = build_eraser("half", sae, cards, tower, target, neutral, strength=1.0)
    assert_nothing_to_gain(eraser, target, neutral)


def test_without_a_kind_of_position_in_common_neurons_keep_their_decoder_rows(tower):
    target, neutral = (
        Embeddings(data.x, data.kinds.masked_fill(data.kinds != BEGIN, kind))
        for data, kind in ((harvest(tower, PROMPTS[:4]), PADDING), (harvest(tower, PROMPTS[4:]), WORD))
    )
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16))
    cards = find_neurons(sae, target, neutral, top=3)
    fitted, raw = (build_eraser("half", sae, cards, tower, target, neutral, fitted=fit) for fit in (True, False))
    assert all(same_bits(t, u) for t, u in zip(fitted.neurons, raw.neurons, strict=True))


def test_a_neuron_that_never_fires_keeps_its_decoder_row(tower):
    target, neutral = harvest(tower, PROMPTS[:4]), harvest(tower, PROMPTS[4:])
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16))
    cards = find_neurons(sae, target, neutral, top=2)
    with torch.no_grad():
        sae.b_enc[cards[1].neuron] = -1e3
    rows = neurons_of(sae, [card.neuron for card in cards], 1.0).decoder
    eraser = build_eraser("half", sae, cards, tower, target, neutral)
    silent = [told["neuron"] for told in eraser.card["half"]["neurons"]].index(cards[1].neuron)
    assert torch.equal(eraser.neurons.decoder[silent], rows[1])
    assert not torch.equal(eraser.neurons.decoder[1 - silent], rows[0])


@pytest.mark.parametrize("support", ["position", "prompt"])
def test_the_level_is_the_mean_peak_of_the_target_prompts_that_fire(tower, support):
    target, neutral = harvest(tower, PROMPTS[:4]), harvest(tower, PROMPTS[4:])
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16, support=support))
    eraser = build_eraser("half", sae, find_neurons(sae, target, neutral, top=1), tower, target, neutral)
    peaks = eraser.activations(target.x)
    fired = peaks > eraser.neurons.threshold
    assert fired.any()
    expected = peaks[fired].mean() if support == "prompt" else torch.tensor(0.0)
    torch.testing.assert_close(eraser.neurons.level[0], expected)


def test_neither_fitted_nor_levelled_an_eraser_is_the_neurons_of_the_autoencoder(tower):
    target, neutral = harvest(tower, PROMPTS[:4]), harvest(tower, PROMPTS[4:])
    sae = random_sae(3, SAEConfig(tower.width, latents=64, k=16))
    cards = find_neurons(sae, target, neutral, top=1)
    eraser = build_eraser("half", sae, cards, tower, target, neutral, 2.0, fitted=False, levelled=False)
    raw = neurons_of(sae, [cards[0].neuron], 2.0)
    assert all(map(torch.equal, eraser.neurons._replace(threshold=raw.threshold), raw))
