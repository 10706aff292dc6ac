"""The promises on the embedded model: a real text encoder, an SAE trained on it, real pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from snce.demo.prompts import test_set as make_test_set
from snce.erase.build import build_eraser
from snce.erase.eraser import ConceptEraser
from snce.text.towers import TextTower
from tests.examples import encode, same_bits, state, touched

RECALL, FALSE_FIRES = 0.9, 0.1


def pictures(pipe, prompts, seed=0, **options) -> list[bytes]:
    """Every bit of each picture, as floats, in three steps."""
    rng = torch.Generator().manual_seed(seed)
    options = {"num_inference_steps": 3, "output_type": "np", "generator": rng, **options}
    return [image.tobytes() for image in pipe(list(prompts), **options).images]


@pytest.fixture(scope="module")
def tower(emblem):
    return TextTower.from_pipeline(emblem)


@pytest.fixture(scope="module")
def eraser(laboratory, trained):
    return laboratory.eraser(trained.sae, "cigarette")


@pytest.fixture(scope="module")
def other(laboratory, trained):
    return laboratory.eraser(trained.sae, "violin")


@pytest.fixture(scope="module")
def prompts():
    tests = make_test_set("cigarette", direct=3, pairs=3, retain=6)
    return [p.text for p in (*tests.direct, *tests.pairs, *tests.retain)] + ["a violin", "", "a cigarette"]


def fired(eraser, embeddings):
    return (eraser.activations(embeddings) > eraser.neurons.threshold).any(1).tolist()


@pytest.fixture(scope="module")
def loud(eraser, tower, prompts):
    """Whether the neuron fires on each prompt."""
    marks = fired(eraser, tower.encode(prompts))
    assert 3 <= sum(marks) <= len(prompts) - 3
    return marks


@pytest.fixture(scope="module")
def plain(emblem, prompts):
    """The pictures that the pipeline draws by itself."""
    return pictures(emblem, prompts)


@pytest.fixture(autouse=True)
def left_as_found(emblem):
    _, hooks = state(emblem)
    yield
    assert state(emblem)[1] == hooks
    assert "encode_prompt" not in vars(emblem)


def test_where_the_neuron_is_silent_the_picture_is_the_same_bytes_and_where_it_fires_another(
    emblem, eraser, prompts, loud, plain
):
    with eraser.attach(emblem):
        after = pictures(emblem, prompts)
    assert [a != b for a, b in zip(plain, after, strict=True)] == loud


def test_one_prompt_at_a_time_it_is_the_same_and_with_all_steps(emblem, eraser):
    for prompt, changes in (("a violin and an apple", False), ("a cigarette", True)):
        before = pictures(emblem, [prompt], num_inference_steps=20)
        with eraser.attach(emblem):
            assert (pictures(emblem, [prompt], num_inference_steps=20) != before) is changes


def test_detaching_restores_the_bytes(emblem, eraser, prompts, plain):
    attachment = eraser.attach(emblem)
    attachment.detach()
    assert pictures(emblem, prompts) == plain


def test_strength_zero_leaves_every_picture(emblem, eraser, prompts, plain):
    with eraser.with_strength(0).attach(emblem):
        assert pictures(emblem, prompts) == plain


def test_attaching_two_is_attaching_their_union(emblem, eraser, other, prompts, loud, plain):
    with (eraser | other).attach(emblem):
        joined = pictures(emblem, prompts)
    for first, second in ((eraser, other), (other, eraser)):
        with first.attach(emblem), second.attach(emblem):
            assert pictures(emblem, prompts) == joined
    violin = prompts.index("a violin")
    assert joined[violin] != plain[violin]
    assert all(a != b for a, b, mark in zip(joined, plain, loud, strict=True) if mark)


def test_each_of_two_silent_neurons_keeps_the_promise(emblem, tower, eraser, other, prompts, plain):
    x = tower.encode(prompts)
    either = [a or b for a, b in zip(fired(eraser, x), fired(other, x), strict=True)]
    assert fired(eraser | other, x) == either
    with (eraser | other).attach(emblem):
        after = pictures(emblem, prompts)
    assert [a != b for a, b in zip(plain, after, strict=True)] == either


def test_a_negative_prompt_is_edited_only_on_request(emblem, eraser):
    options = {"negative_prompt": ["a cigarette"]}
    before = pictures(emblem, ["a violin"], **options)
    with eraser.attach(emblem):
        assert pictures(emblem, ["a violin"], **options) == before
    with eraser.attach(emblem, edit_negative=True):
        assert pictures(emblem, ["a violin"], **options) != before
        assert pictures(emblem, ["a cigarette"], negative_prompt=["a violin"]) != pictures(
            emblem, ["a violin"], negative_prompt=["a violin"]
        )


def test_the_denoiser_gets_the_edited_prompt_beside_the_plain_negative(emblem, eraser):
    plain = encode(emblem, ["a cigarette"], negative=["a cigarette"])
    assert same_bits(plain[0], plain[1])
    with eraser.attach(emblem):
        positive, negative = encode(emblem, ["a cigarette"], negative=["a cigarette"])
    assert same_bits(positive, eraser.edit(plain[0]))
    assert same_bits(negative, plain[1])
    assert not same_bits(positive, negative)


def test_all_pictures_of_a_prompt_are_edited_and_all_of_a_silent_one_kept(emblem, eraser):
    prompts, options = ["a violin", "a cigarette"], {"num_images_per_prompt": 3}
    before = pictures(emblem, prompts, **options)
    with eraser.attach(emblem):
        after = pictures(emblem, prompts, **options)
    assert len(set(before)) == 6
    assert [a != b for a, b in zip(before, after, strict=True)] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_in_every_dtype_silent_embeddings_are_kept_bit_for_bit(tower, eraser, prompts, dtype):
    x = tower.encode(prompts).to(dtype)
    edited = eraser.edit(x)
    assert edited.dtype == dtype
    changed = touched(x, edited)
    assert changed.any(1).tolist() == fired(eraser, x)
    assert not changed[:, 0].any(), "begin-of-text is the same for every prompt"


def test_rounding_to_bfloat16_does_not_change_who_is_edited_where_the_case_is_clear(tower, eraser):
    x = tower.encode(["a cigarette", "a violin"])
    assert fired(eraser, x) == fired(eraser, x.bfloat16()) == [True, False]


@torch.no_grad()
def test_the_edit_along_decoder_rows_is_that_of_the_whole_sae_with_the_neuron_taken_out(laboratory, trained, tower):
    eraser = laboratory.eraser(trained.sae, "cigarette", fitted=False)
    prompts = ["a cigarette", "a cigarette and a violin"]
    x, kinds = tower.encode(prompts), tower.kinds(tower.tokenize(prompts))
    neuron = eraser.card["cigarette"]["neurons"][0]["neuron"]
    strength = float(eraser.neurons.strength[0])
    z = trained.sae.encode(x, kinds).activations
    without = z.clone()
    factor = (eraser.neurons.level / eraser.activations(x)).clamp_min(1)  # where the prompt is below the level
    without[..., neuron] *= 1 - strength * factor
    assert (z != without).any(-1).any(-1).all()
    difference = trained.sae.decode(without) - trained.sae.decode(z)
    torch.testing.assert_close(eraser.edit(x) - x, difference, atol=1e-4, rtol=1e-4)


def test_a_saved_eraser_edits_to_the_same_bits(tower, eraser, prompts, tmp_path):
    eraser.save(tmp_path / "cigarette.safetensors")
    assert (tmp_path / "cigarette.safetensors").stat().st_size < 6000
    x = tower.encode(prompts)
    assert same_bits(ConceptEraser.load(tmp_path / "cigarette.safetensors").edit(x), eraser.edit(x))


@pytest.fixture(scope="module")
def new_prompts(tower):
    """Embeddings of prompts that neither chose a concept's neuron nor set its threshold: (with it, without it)."""

    @cache
    def embeddings(concept):
        tests = make_test_set(concept, direct=48, pairs=48, retain=160)
        return tuple(tower.encode([p.text for p in group]) for group in ((*tests.direct, *tests.pairs), tests.retain))

    return embeddings


def rates(eraser, embeddings):
    """(recall, false fires)."""
    with_it, without = (fired(eraser, x) for x in embeddings)
    return sum(with_it) / len(with_it), sum(without) / len(without)


@pytest.mark.parametrize("concept", ["bomb", "violin", "snake", "dagger", "twemoji"])
def test_one_neuron_finds_its_concept_in_new_prompts(laboratory, trained, new_prompts, concept):
    recall, false_fires = rates(laboratory.eraser(trained.sae, concept), new_prompts(concept))
    assert recall >= RECALL
    assert false_fires <= FALSE_FIRES


def test_few_other_neurons_would_do(laboratory, trained, tower, new_prompts):
    """Each with the threshold that is best for it. That some do is no wonder: they read the concept's words, too."""
    cards, target, neutral = laboratory.find(trained.sae, "bomb")
    others = [replace(cards[0], neuron=i) for i in range(trained.sae.config.latents) if i != cards[0].neuron]
    eraser = build_eraser("bomb", trained.sae, others, tower, target, neutral)
    recall, false_fires = (
        (eraser.activations(x) > eraser.neurons.threshold).double().mean(0) for x in new_prompts("bomb")
    )
    assert ((recall >= RECALL) & (false_fires <= FALSE_FIRES)).double().mean() < 0.05
