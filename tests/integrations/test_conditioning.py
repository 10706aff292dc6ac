"""Erasers on CONDITIONING: exactness, chunks, weights, entries, what is refused."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.erase.edit import activations
from snce.errors import SnceError
from snce.integrations.conditioning import edit_conditioning, read_conditioning, scaled
from tests.examples import random_embeddings, random_eraser, same_bits, touched

seeds = st.integers(0, 10_000)
dtypes = st.sampled_from((torch.float32, torch.bfloat16, torch.float16))


def silenced(eraser, x):
    """The same eraser with thresholds that no activation in x passes."""
    heights = eraser.activations(x).amax(0).clamp_min(0)
    return replace(eraser, neurons=eraser.neurons._replace(threshold=heights))


def long_prompt(seed, chunks=3, b=1, positions=77):
    """[b, chunks * positions, 8], of which the odd chunks are so quiet that no neuron of `random_eraser` fires."""
    x = random_embeddings(seed, b * chunks, positions).x.reshape(b, chunks, positions, 8)
    x[:, 1::2] *= 1e-3
    return x.flatten(1, 2)


@given(seeds, dtypes)
def test_one_chunk_is_edited_as_eraser_edit_edits_it(seed, dtype):
    x = random_embeddings(seed, positions=77, dtype=dtype).x
    eraser = random_eraser(seed)
    [[edited, _]] = edit_conditioning([[x, {}]], eraser)
    assert same_bits(edited, eraser.edit(x))


@given(seeds, dtypes)
def test_where_nothing_fires_the_tensor_is_the_same_one(seed, dtype):
    x = random_embeddings(seed, positions=154, dtype=dtype).x
    eraser = random_eraser(seed)
    quiet = silenced(eraser, x.reshape(-1, 77, 8))
    assert edit_conditioning([[x, {}]], quiet)[0][0] is x
    assert edit_conditioning([[x, {}]], eraser, strength=0)[0][0] is x


@given(seeds, st.integers(1, 2))
def test_every_chunk_is_edited_as_a_prompt_of_its_own(seed, b):
    x = long_prompt(seed, b=b)
    eraser = random_eraser(seed)
    [[edited, _]] = edit_conditioning([[x, {}]], eraser)
    chunks = [eraser.edit(x[:, at : at + 77]) for at in (0, 77, 154)]
    torch.testing.assert_close(edited, torch.cat(chunks, 1))
    assert torch.equal(touched(x, edited), touched(x, torch.cat(chunks, 1)))
    assert not touched(x, edited)[:, 77:154].any()  # the quiet one, though the neuron fires in its neighbours


def test_begin_of_text_of_every_chunk_is_left_alone():
    eraser = random_eraser(5)
    x = eraser.neurons.encoder[:1].expand(154, 8)[None] * 50  # fires at every position
    [[edited, _]] = edit_conditioning([[x, {}]], eraser)
    begins = torch.arange(154) % 77 == 0
    assert torch.equal(touched(x, edited)[0], ~begins)


def test_an_encoder_without_begin_of_text_reads_all_tokens_as_one_prompt():
    eraser = random_eraser(2, n=1)  # its neuron is of a prompt code: where one position fires it, all others are edited
    eraser = replace(eraser, begin=0, neurons=eraser.neurons._replace(bias=torch.zeros(1)))
    x = long_prompt(2)
    x[:, 0] = eraser.neurons.encoder[0] * 50
    [[edited, _]] = edit_conditioning([[x, {}]], eraser)
    assert same_bits(edited, eraser.edit(x))
    assert touched(x, edited)[0, 0]
    assert touched(x, edited)[0, 77:154].any()


def test_tokens_can_be_one_prompt_or_chunks_of_another_length():
    x, eraser = long_prompt(1), random_eraser(1)
    [[whole, _]] = edit_conditioning([[x, {}]], eraser, chunk=0)
    assert same_bits(whole, eraser.edit(x))
    [[short, _]] = edit_conditioning([[x, {}]], eraser, chunk=21)
    assert same_bits(short, eraser.edit(x.reshape(-1, 21, 8)).reshape(x.shape))


def test_tokens_that_are_not_whole_chunks_are_refused_and_the_message_says_what_to_do():
    with pytest.raises(SnceError, match=r"80 tokens.*whole chunks of 77; set `chunk`.*or to 0"):
        edit_conditioning([[torch.randn(1, 80, 8), {}]], random_eraser(0))


def test_entries_are_edited_one_by_one_and_all_else_is_kept():
    eraser = random_eraser(7)
    loud, mask = random_embeddings(7, positions=77).x, torch.ones(1, 8, 8)
    quiet = loud * 1e-3
    given_ = [[loud, {"pooled_output": torch.ones(1, 4), "mask": mask}], [quiet, {"area": (8, 8, 0, 0)}]]
    before = [(x.clone(), dict(options)) for x, options in given_]
    edited = edit_conditioning(given_, eraser)
    assert same_bits(edited[0][0], eraser.edit(loud))
    assert not torch.equal(edited[0][0], loud)
    assert edited[1][0] is quiet
    for (x, options), (_, kept), (copy, others) in zip(given_, edited, before, strict=True):
        assert same_bits(x, copy)  # not modified in place
        assert options == others
        assert kept is not options
        assert kept.keys() == options.keys()
        assert all(kept[key] is options[key] for key in kept)


@given(seeds, st.floats(0.1, 3))
def test_strength_multiplies_that_of_every_neuron(seed, strength):
    x, eraser = random_embeddings(seed, positions=77).x, random_eraser(seed)
    stronger = replace(eraser, neurons=eraser.neurons._replace(strength=eraser.neurons.strength * strength))
    [[edited, _]] = edit_conditioning([[x, {}]], eraser, strength)
    assert same_bits(edited, stronger.edit(x))
    assert scaled(eraser, 1.0).neurons.strength.tolist() == eraser.neurons.strength.tolist()


@pytest.mark.parametrize(("width", "named"), [(768, "Stable Diffusion 1.x"), (2048, "768 and 1280"), (9, "width 9")])
def test_another_width_is_refused_by_name(width, named):
    with pytest.raises(SnceError, match=rf"eraser of gun is for .* width 8 \(.*{named}.*load an eraser"):
        edit_conditioning([[torch.randn(1, 77, width), {}]], random_eraser(0, "gun"))


def test_what_is_no_text_embedding_is_refused():
    for wrong, named in ((torch.randn(77, 8), r"\[77, 8\]"), (None, "NoneType")):
        with pytest.raises(SnceError, match=rf"\[prompts, tokens, width\], not {named}"):
            edit_conditioning([[wrong, {}]], random_eraser(0))
    with pytest.raises(SnceError, match="no entries"):
        read_conditioning([], random_eraser(0))
    assert edit_conditioning([], random_eraser(0)) == []


@given(seeds, st.booleans())
def test_a_reading_is_the_highest_activation_and_tells_whether_the_edit_acts(seed, quiet):
    eraser = random_eraser(seed)
    entries = [[long_prompt(seed + i, b=2), {}] for i in range(2)]
    everything = torch.cat([x for x, _ in entries]).reshape(-1, 77, 8)
    if quiet:
        eraser = silenced(eraser, everything)
    readings = read_conditioning(entries, eraser)
    assert [r.concept for r in readings] == list(eraser.concepts)
    torch.testing.assert_close(torch.tensor([r.activation for r in readings]), eraser.activations(everything).amax(0))
    assert [r.threshold for r in readings] == eraser.neurons.threshold.tolist()
    acts = any(a is not b for (a, _), (b, _) in zip(entries, edit_conditioning(entries, eraser), strict=True))
    assert acts is any(r.fires for r in readings) is not quiet


def test_a_threshold_below_zero_acts_as_zero():
    eraser = random_eraser(3)
    eraser = replace(eraser, neurons=eraser.neurons._replace(threshold=torch.full((2,), -1.0)))
    readings = read_conditioning([[torch.zeros(1, 77, 8) - 1e3 * eraser.neurons.encoder.sum(0), {}]], eraser)
    assert [r.threshold for r in readings] == [0, 0]


def weighted(tower, prompt, word, weight):
    """The embeddings of a prompt of one chunk whose `word`th word has a weight, by ComfyUI's rule."""
    x, empty = tower.encode([prompt]), tower.encode([""])
    starts = [len(tower.tokenizer(" ".join(prompt.split()[:n])).input_ids) - 1 for n in (word, word + 1)]
    at = slice(*starts)
    x[:, at] = (x[:, at] - empty[:, at]) * weight + empty[:, at]
    return x, at


def test_a_weighted_word_moves_its_activations_in_proportion(tower, erasers):
    (_, (eraser, *_)) = erasers
    eraser = replace(eraser, begin=0)
    plain, at = weighted(tower, "two dogs", 1, 1.0)
    heavy, _ = weighted(tower, "two dogs", 1, 1.3)
    u, v, e = (activations(x, eraser.neurons, 0)[0, :, 0] for x in (plain, heavy, tower.encode([""])))
    torch.testing.assert_close(v[at], e[at] + 1.3 * (u[at] - e[at]))
    assert not torch.equal(v[at], u[at])
    outside = [i for i in range(len(u)) if not at.start <= i < at.stop]
    assert torch.equal(v[outside], u[outside])


def test_the_chunks_of_a_long_prompt_are_encoded_and_edited_one_by_one(tower, erasers):
    for eraser, loud, silent in erasers:
        x = torch.cat([tower.encode([loud[0]]), tower.encode([silent[0]])], 1)
        [[edited, _]] = edit_conditioning([[x, {}]], eraser, chunk=tower.positions)
        first, second = edited.chunk(2, 1)
        torch.testing.assert_close(first, eraser.edit(tower.encode([loud[0]])))
        assert not torch.equal(first, tower.encode([loud[0]]))
        assert same_bits(second, tower.encode([silent[0]]))
