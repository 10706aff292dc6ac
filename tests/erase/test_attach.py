"""An eraser on a real, tiny Stable Diffusion pipeline: what it edits, what it leaves, how it goes without a trace."""

import copy
import dataclasses
import itertools
import threading

import pytest
import torch
from diffusers import StableDiffusionPipeline

from snce.errors import SnceError
from snce.text.towers import TextTower
from tests.examples import PROMPTS, encode, picture, same_bits, state, tiny_pipeline

pytestmark = pytest.mark.usefixtures("left_as_found")


def test_a_prompt_with_the_concept_gets_another_picture_and_all_others_the_same_bytes(shared_pipe, erasers):
    for eraser, loud, silent in erasers:
        plain = {p: picture(shared_pipe, p) for p in PROMPTS}
        with eraser.attach(shared_pipe):
            assert all(picture(shared_pipe, p) == plain[p] for p in silent)
            assert all(picture(shared_pipe, p) != plain[p] for p in loud)


def test_the_denoiser_gets_exactly_the_edited_embeddings(shared_pipe, tower, erasers):
    for eraser, _, _ in erasers:
        plain = encode(shared_pipe, list(PROMPTS))[0]
        assert same_bits(plain, tower.encode(PROMPTS))
        with eraser.attach(shared_pipe):
            assert same_bits(encode(shared_pipe, list(PROMPTS))[0], eraser.edit(plain))


def test_a_batch_keeps_the_bytes_of_its_silent_prompts(shared_pipe, erasers):
    eraser, loud, silent = erasers[0]
    prompts = [silent[0], loud[0]]
    options = {"num_inference_steps": 2, "output_type": "np"}
    plain = shared_pipe(prompts, generator=torch.Generator().manual_seed(0), **options).images
    with eraser.attach(shared_pipe):
        edited = shared_pipe(prompts, generator=torch.Generator().manual_seed(0), **options).images
    assert edited[0].tobytes() == plain[0].tobytes()
    assert edited[1].tobytes() != plain[1].tobytes()


def test_strength_zero_gives_the_same_picture(shared_pipe, erasers):
    eraser, loud, _ = erasers[0]
    plain = picture(shared_pipe, loud[0])
    with eraser.with_strength(0).attach(shared_pipe):
        assert picture(shared_pipe, loud[0]) == plain


def test_detaching_restores_everything(shared_pipe, erasers):
    eraser, loud, _ = erasers[0]
    before, plain = state(shared_pipe), picture(shared_pipe, loud[0])
    attachment = eraser.attach(shared_pipe)
    assert state(shared_pipe) != before
    attachment.detach()
    assert state(shared_pipe) == before
    attachment.detach()
    assert state(shared_pipe) == before
    assert picture(shared_pipe, loud[0]) == plain


def test_an_exception_restores_everything_too(shared_pipe, erasers):
    before = state(shared_pipe)
    with pytest.raises(TypeError), erasers[0][0].attach(shared_pipe):
        encode(shared_pipe, ["a", "b"], negative="not a list")
    assert state(shared_pipe) == before


def test_after_a_failed_call_the_next_one_is_edited_as_ever(shared_pipe, erasers):
    eraser, loud, _ = erasers[0]
    expected = eraser.edit(encode(shared_pipe, loud)[0])
    with eraser.attach(shared_pipe):
        with pytest.raises(TypeError):
            encode(shared_pipe, ["a", "b"], negative="not a list")
        assert same_bits(encode(shared_pipe, loud)[0], expected)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_attachments_may_come_off_in_any_order(shared_pipe, tower, erasers, order):
    a, b = erasers[0][0], erasers[1][0]
    before, plain = state(shared_pipe), tower.encode(PROMPTS)
    left = dict(enumerate([a.attach(shared_pipe), b.attach(shared_pipe), a.attach(shared_pipe)]))
    for i in order:
        left.pop(i).detach()
        here = {attachment.eraser for attachment in left.values()}
        expected = (a | b if len(here) == 2 else here.pop()).edit(plain) if here else plain
        assert same_bits(encode(shared_pipe, list(PROMPTS))[0], expected)
    assert state(shared_pipe) == before


def test_attaching_two_is_attaching_their_union(shared_pipe, erasers):
    (a, loud, _), (b, _, _) = erasers
    with (a | b).attach(shared_pipe):
        joined, drawn = encode(shared_pipe, list(PROMPTS))[0], picture(shared_pipe, loud[0])
    for first, second in ((a, b), (b, a)):
        with first.attach(shared_pipe), second.attach(shared_pipe):
            assert same_bits(encode(shared_pipe, list(PROMPTS))[0], joined)
            assert picture(shared_pipe, loud[0]) == drawn


def test_what_the_user_put_on_the_pipeline_stays(pipe, tower, erasers):
    eraser, loud, _ = erasers[0]
    original, calls = pipe.encode_prompt, []

    def counting(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    pipe.encode_prompt = counting
    pipe.text_encoder.register_forward_hook(lambda *_: None)
    picture(pipe, loud[0])  # the first call sets attributes
    before = state(pipe)
    calls.clear()
    with eraser.attach(pipe):
        picture(pipe, loud[0])
    assert state(pipe) == before
    assert len(calls) == 1


def test_negative_prompts_are_edited_only_on_request(shared_pipe, erasers):
    for eraser, loud, silent in erasers:
        plain = encode(shared_pipe, silent[:1], negative=loud[:1])
        with eraser.attach(shared_pipe):
            positive, negative = encode(shared_pipe, silent[:1], negative=loud[:1])
            assert same_bits(positive, plain[0])
            assert same_bits(negative, plain[1])
            assert same_bits(encode(shared_pipe, loud[:1], negative=loud[:1])[0], eraser.edit(plain[1]))
        with eraser.attach(shared_pipe, edit_negative=True):
            assert same_bits(encode(shared_pipe, silent[:1], negative=loud[:1])[1], eraser.edit(plain[1]))


def test_each_eraser_decides_for_itself_about_negative_prompts(shared_pipe, erasers):
    (a, loud, _), (b, _, _) = erasers
    plain = encode(shared_pipe, loud[:1], negative=loud[:1])[1]
    with a.attach(shared_pipe), b.attach(shared_pipe, edit_negative=True):
        positive, negative = encode(shared_pipe, loud[:1], negative=loud[:1])
    assert same_bits(positive, (a | b).edit(plain))
    assert same_bits(negative, b.edit(plain))


def test_given_prompt_embeds_are_used_as_they_are_and_the_negative_beside_them_stays_a_negative(shared_pipe, erasers):
    for eraser, loud, _ in erasers:
        given = encode(shared_pipe, loud[:1])[0]
        options = {"prompt_embeds": given, "negative_prompt": loud[0]}
        plain = picture(shared_pipe, None, **options)
        with eraser.attach(shared_pipe):
            assert picture(shared_pipe, None, **options) == plain
            assert same_bits(encode(shared_pipe, None, negative=loud[0], prompt_embeds=given)[0], given)
        with eraser.attach(shared_pipe, edit_negative=True):
            positive, negative = encode(shared_pipe, None, negative=loud[0], prompt_embeds=given)
            assert same_bits(positive, given)
            assert same_bits(negative, eraser.edit(given))


def test_given_negative_embeds_are_used_as_they_are(shared_pipe, erasers):
    eraser, loud, _ = erasers[0]
    given = encode(shared_pipe, loud[:1])[0]
    with eraser.attach(shared_pipe, edit_negative=True):
        positive, negative = shared_pipe.encode_prompt(loud[0], "cpu", 1, True, negative_prompt_embeds=given)
    assert same_bits(negative, given)
    assert same_bits(positive, eraser.edit(given))


def test_all_pictures_of_a_prompt_are_edited(shared_pipe, erasers):
    eraser, loud, silent = erasers[0]
    expected = eraser.edit(encode(shared_pipe, [silent[0], loud[0]])[0]).repeat_interleave(3, 0)
    with eraser.attach(shared_pipe):
        embeds = shared_pipe.encode_prompt([silent[0], loud[0]], "cpu", 3, False)[0].detach()
    assert same_bits(embeds, expected)


def test_clip_skip_does_not_get_around_the_eraser(pipe, erasers):
    """The pipeline then calls the final norm a second time, by itself, on a hidden state."""
    if not hasattr(pipe.text_encoder, "text_model"):  # diffusers looks for it; not every transformers version has it
        vars(pipe.text_encoder)["text_model"] = pipe.text_encoder
    eraser, loud, _ = erasers[1]
    plain = encode(pipe, loud, negative=loud, clip_skip=1)
    expected = eraser.edit(plain[0])
    assert not same_bits(expected, plain[0])
    with eraser.attach(pipe):
        positive, negative = encode(pipe, loud, negative=loud, clip_skip=1)
    assert same_bits(positive, expected)
    assert same_bits(negative, plain[1])


def test_the_encoder_is_edited_outside_encode_prompt_too(shared_pipe, tower, erasers):
    eraser, loud, _ = erasers[0]
    tokens = tower.tokenize(loud).ids
    with torch.no_grad():
        plain = shared_pipe.text_encoder(tokens).last_hidden_state
        with eraser.attach(tower):
            assert same_bits(shared_pipe.text_encoder(tokens).last_hidden_state, eraser.edit(plain))


def test_another_text_encoder_is_refused_unless_a_mismatch_is_allowed(tower, erasers):
    eraser, other = erasers[0][0], tiny_pipeline(1)
    before, plain = state(other), TextTower.from_pipeline(other).encode(PROMPTS)
    with pytest.raises(SnceError) as caught:
        eraser.attach(other)
    for word in (tower.fingerprint, TextTower.from_pipeline(other).fingerprint, "allow_mismatch", "concept 0"):
        assert word in str(caught.value)
    assert state(other) == before
    with eraser.attach(other, allow_mismatch=True):
        assert same_bits(encode(other, list(PROMPTS))[0], eraser.edit(plain))


def test_an_eraser_that_cannot_join_those_on_the_pipeline_leaves_them_as_they_are(shared_pipe, tower, erasers):
    eraser, foreign = erasers[0][0], dataclasses.replace(erasers[1][0], fingerprint="ffff")
    before, plain = state(shared_pipe), tower.encode(PROMPTS)
    with eraser.attach(shared_pipe):
        with pytest.raises(SnceError, match="cannot join"):
            foreign.attach(shared_pipe, allow_mismatch=True)
        assert same_bits(encode(shared_pipe, list(PROMPTS))[0], eraser.edit(plain))
    assert state(shared_pipe) == before
    assert same_bits(encode(shared_pipe, list(PROMPTS))[0], plain)


def test_another_module_of_the_same_encoder_is_refused(tower, erasers):
    other = TextTower(tower.encoder, tower.tokenizer, "encoder.layers.0")
    with pytest.raises(SnceError, match=r"final_layer_norm.*encoder\.layers\.0"):
        erasers[0][0].attach(other)


def test_a_pipeline_that_is_not_in_the_table_is_refused(erasers):
    with pytest.raises(SnceError, match="TextTower"):
        erasers[0][0].attach(object())


def test_prompts_that_are_encoded_one_by_one_are_not_taken_for_negative_ones(pipe, erasers):
    """By whoever replaces `encode_prompt`, to cut long prompts into pieces for one."""
    eraser, loud, silent = erasers[0]
    original = pipe.encode_prompt

    def one_by_one(prompt, *args, **kwargs):
        return torch.cat([original([p], *args, **kwargs)[0] for p in prompt]), None

    prompts = [silent[0], silent[1], loud[0]]
    expected = eraser.edit(TextTower.from_pipeline(pipe).encode(prompts))
    pipe.encode_prompt = one_by_one
    with eraser.attach(pipe), pytest.raises(SnceError, match="cannot tell them apart; attach it with edit_negative"):
        pipe.encode_prompt(prompts, "cpu", 1, False)
    with eraser.attach(pipe, edit_negative=True):
        assert same_bits(pipe.encode_prompt(prompts, "cpu", 1, False)[0].detach(), expected)


def test_pipelines_in_other_threads_are_not_touched(shared_pipe, erasers):
    eraser, loud, _ = erasers[0]
    other = tiny_pipeline(0)
    plain = picture(other, loud[0])
    with eraser.attach(shared_pipe):
        edited = picture(shared_pipe, loud[0])
    drawn = {}
    barrier = threading.Barrier(2)

    def draw(name, pipe):
        barrier.wait()
        drawn[name] = [picture(pipe, loud[0]) for _ in range(3)]

    with eraser.attach(shared_pipe):
        threads = [threading.Thread(target=draw, args=job) for job in (("edited", shared_pipe), ("plain", other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert drawn == {"edited": [edited] * 3, "plain": [plain] * 3}


def test_threads_that_share_an_encoder_keep_their_prompts_and_negatives_apart(shared_pipe, erasers):
    eraser, loud, _ = erasers[0]
    plain = encode(shared_pipe, loud[:1])[0]
    # a tokenizer of its own for each: those of transformers cannot be shared between threads
    parts = [shared_pipe.components | {"tokenizer": copy.deepcopy(shared_pipe.tokenizer)} for _ in range(3)]
    pipes = [StableDiffusionPipeline(**p, requires_safety_checker=False) for p in parts]
    results = []

    def run(pipe):
        results.extend(encode(pipe, loud[:1], negative=loud[:1]) for _ in range(10))

    with eraser.attach(pipes[0]), eraser.attach(pipes[1]), eraser.attach(pipes[2]):
        threads = [threading.Thread(target=run, args=(pipe,)) for pipe in pipes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 30
    assert all(same_bits(p, eraser.edit(plain)) and same_bits(n, plain) for p, n in results)
