"""ConceptEraser: an algebra of frozen data, and a file that is whole or refused."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from snce.erase.compose import compose
from snce.erase.edit import Neurons, edit
from snce.erase.eraser import ConceptEraser
from snce.erase.files import FORMAT
from snce.errors import SnceError
from tests.examples import random_embeddings, random_eraser, random_neurons, same_bits

seeds = st.integers(0, 10_000)
kinds_of_eraser = st.tuples(seeds, st.integers(1, 3))


def identical(a: ConceptEraser, b: ConceptEraser) -> bool:
    """All tensors bit for bit, and everything that is said about them."""
    tensors = all(same_bits(t, u) for t, u in zip(a.neurons, b.neurons, strict=True))
    fields = ("concepts", "fingerprint", "tower", "module", "pipeline", "begin", "card")
    return tensors and all(getattr(a, f) == getattr(b, f) for f in fields)


def make(kind: tuple[int, int], concept: str) -> ConceptEraser:
    seed, n = kind
    return random_eraser(seed, concept, n)


@given(kinds_of_eraser, kinds_of_eraser, seeds)
def test_the_order_of_two_erasers_does_not_matter(one, two, seed):
    a, b = make(one, "gun"), make(two, "beer")
    assert identical(a | b, b | a)
    x = random_embeddings(seed).x
    assert same_bits((a | b).edit(x), (b | a).edit(x))


@given(seeds, seeds)
def test_the_order_of_two_erasers_of_one_concept_does_not_matter(one, two):
    a, b = random_eraser(one), random_eraser(two)
    assert identical(a | b, b | a)


def test_the_order_does_not_matter_where_only_one_says_which_pipeline_it_is_for():
    a = dataclasses.replace(random_eraser(1, "gun"), pipeline="StableDiffusionPipeline")
    b = random_eraser(2, "beer")
    assert identical(a | b, b | a)


@given(kinds_of_eraser, kinds_of_eraser, kinds_of_eraser)
def test_how_erasers_are_bracketed_does_not_matter(one, two, three):
    a, b, c = make(one, "gun"), make(two, "beer"), make(three, "wine")
    assert identical((a | b) | c, a | (b | c))
    assert identical((a | b) | c, compose([c, a, b]))


@given(kinds_of_eraser, seeds)
def test_an_eraser_joined_with_itself_is_itself(kind, seed):
    a = compose([make(kind, "gun")])
    assert identical(a | a, a)
    b = make((seed, 2), "beer")
    assert identical((a | b) | a, a | b)


@given(
    seeds,
    st.lists(st.tuples(st.floats(0, 4), st.floats(-1, 1), st.floats(0.1, 2)), min_size=1, max_size=4),
    st.randoms(),
)
def test_of_a_neuron_that_several_hold_the_strongest_strength_and_level_and_the_lowest_threshold_count(
    seed, settings, random
):
    a = random_eraser(seed, n=1)
    several = [
        dataclasses.replace(
            a,
            neurons=a.neurons._replace(
                strength=torch.tensor([s]), threshold=torch.tensor([t]), level=torch.tensor([level])
            ),
        )
        for s, t, level in settings
    ]
    joined = compose(several)
    assert len(joined.concepts) == 1
    assert joined.neurons.strength == max(torch.tensor(s) for s, _, _ in settings)
    assert joined.neurons.threshold == min(torch.tensor(t) for _, t, _ in settings)
    assert joined.neurons.level == max(torch.tensor(level) for *_, level in settings)
    random.shuffle(several)
    x = random_embeddings(seed, n=8).x
    assert same_bits(compose(several).edit(x), joined.edit(x))
    for part in several:  # joined, they do no less than any of them alone
        changed, before = joined.edit(x) - x, part.edit(x) - x
        assert (changed.norm(dim=-1) >= before.norm(dim=-1) * (1 - 1e-5)).all()


def test_the_same_rows_of_two_concepts_are_two_neurons():
    a = random_eraser(1, "gun")
    assert (a | dataclasses.replace(a, concepts=("pistol",) * 2)).concepts == ("gun", "gun", "pistol", "pistol")


def test_a_single_neuron_joined_with_itself_is_itself():
    a = random_eraser(5, n=1)
    assert identical(a | a, a)


@given(kinds_of_eraser, seeds)
def test_joined_erasers_add_the_changes_of_each(kind, seed):
    a, b = make(kind, "gun"), make((seed, 2), "beer")
    x = random_embeddings(seed, n=8).x
    torch.testing.assert_close((a | b).edit(x) - x, (a.edit(x) - x) + (b.edit(x) - x), rtol=1e-5, atol=1e-5)


def test_erasers_of_different_encoders_cannot_be_joined():
    a = random_eraser(1)
    for other in ({"fingerprint": "ffff"}, {"begin": 0}):
        with pytest.raises(SnceError, match="different text encoders"):
            a | dataclasses.replace(random_eraser(2), **other)


def test_an_eraser_cannot_be_changed():
    a = random_eraser(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.fingerprint = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        a.neurons.strength = torch.zeros(2)  # type: ignore[misc]


@given(seeds)
def test_with_strength_makes_another_eraser_and_zero_is_the_identity(seed):
    a = random_eraser(seed)
    before = a.neurons.strength.clone()
    x = random_embeddings(seed, n=8).x
    assert same_bits(a.with_strength(0).edit(x), x)
    assert same_bits(a.neurons.strength, before)
    once, twice = a.with_strength(1).edit(x) - x, a.with_strength(2).edit(x) - x
    torch.testing.assert_close(twice, 2 * once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_an_edit_keeps_the_dtype_and_refuses_another_width(dtype):
    a = random_eraser(1)
    x = random_embeddings(1, dtype=dtype).x
    assert same_bits(a.edit(x), edit(x, a.neurons))
    assert a.edit(x).dtype == dtype
    for wrong in (x[..., :-1], x[0]):
        with pytest.raises(SnceError, match=r"\[b, positions, 8\]"):
            a.edit(wrong)


def test_activations_of_texts_need_a_tower():
    with pytest.raises(SnceError, match="tower"):
        random_eraser(1).activations(["a cat"])


@given(kinds_of_eraser)
def test_an_eraser_comes_back_from_its_file_bit_for_bit(tmp_path_factory, kind):
    path = tmp_path_factory.mktemp("eraser") / "e.safetensors"
    a = dataclasses.replace(make(kind, "Zigarette 🚬"), pipeline="StableDiffusionPipeline", module="a.b", begin=0)
    a.save(path)
    assert identical(ConceptEraser.load(path), a)


def test_one_tensor_may_serve_as_encoder_and_as_decoder(tmp_path):
    neurons = random_neurons(1)
    tied = ConceptEraser(neurons._replace(decoder=neurons.encoder), ("a", "b"), "f")
    tied.save(tmp_path / "e.safetensors")
    assert identical(ConceptEraser.load(tmp_path / "e.safetensors"), tied)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "cigarette.safetensors"
    random_eraser(1).save(path)
    return path


def refuses(path, *words: str) -> None:
    with pytest.raises(SnceError) as caught:
        ConceptEraser.load(path)
    for word in (path.name, *words):
        assert word in str(caught.value)


@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("eraser") / "e.safetensors"
    random_eraser(1).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refuses(path)


def test_files_of_other_kinds_are_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.ones(2)}, foreign)
    refuses(foreign, FORMAT)
    save_file({"weight": torch.ones(2)}, foreign, {"format": "pt"})
    refuses(foreign, "'pt'")
    text = tmp_path / "notes.txt"
    text.write_text("an eraser, some day")
    refuses(text)
    refuses(tmp_path / "absent.safetensors", "no such file")
    refuses(tmp_path)


@pytest.mark.parametrize("name", Neurons._fields)
def test_a_file_without_one_of_the_tensors_is_refused(saved, name):
    tensors = load_file(saved)
    del tensors[name]
    save_file(tensors, saved, metadata_of(random_eraser(1)))
    refuses(saved, name)


@pytest.mark.parametrize("name", Neurons._fields)
def test_tensors_of_wrong_shape_are_refused(saved, name):
    tensors = load_file(saved)
    for wrong in (tensors[name][:1], tensors[name][..., None], tensors[name].new_zeros(())):
        save_file(tensors | {name: wrong.clone()}, saved, metadata_of(random_eraser(1)))
        refuses(saved)


@pytest.mark.parametrize("name", [name for name in Neurons._fields if name != "whole_prompt"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(saved, name, value):
    tensors = load_file(saved)
    tensors[name].view(-1)[0] = value
    save_file(tensors, saved, metadata_of(random_eraser(1)))
    refuses(saved, name)
    neurons = random_neurons(1)
    getattr(neurons, name).view(-1)[0] = value
    with pytest.raises(SnceError, match=name):
        ConceptEraser(neurons, ("a", "b"), "f")


def test_a_strength_that_would_bring_the_concept_out_is_refused(saved):
    with pytest.raises(SnceError, match="negative strength"):
        random_eraser(1).with_strength(-0.5)
    tensors = load_file(saved)
    tensors["strength"][0] = -0.5
    save_file(tensors, saved, metadata_of(random_eraser(1)))
    refuses(saved, "negative strength")


@pytest.mark.parametrize(
    "damage",
    [{"concepts": "not json"}, {"concepts": "3"}, {"concepts": '["one"]'}, {"card": "[1"}, {"card": "7"},
     {"card": '{"gun": 7}'}, {"card": '{"gun": {"neurons": 7}}'}, {"card": '{"gun": {"neurons": [7]}}'},
     {"concepts": None}, {"fingerprint": None}, {"begin": None}, {"begin": "-1"}, {"begin": "one"}],
)  # fmt: skip
def test_damaged_metadata_is_refused(saved, damage):
    metadata = {k: v for k, v in (metadata_of(random_eraser(1)) | damage).items() if v is not None}
    save_file(load_file(saved), saved, metadata)
    refuses(saved)


def metadata_of(eraser: ConceptEraser) -> dict[str, str]:
    concepts = json.dumps(eraser.concepts)
    return {"format": FORMAT, "concepts": concepts, "fingerprint": eraser.fingerprint, "begin": "1", "card": "{}"}
