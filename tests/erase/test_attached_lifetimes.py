"""Pipelines that are dropped, copied, saved, given another encoder or freed of an eraser while it is on them."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from diffusers import StableDiffusionPipeline

from snce.erase import attach as module
from snce.errors import SnceError
from snce.text.towers import TextTower
from tests.examples import PROMPTS, encode, eraser_for, same_bits, tiny_pipeline

pytestmark = pytest.mark.usefixtures("left_as_found")


def test_a_pipeline_that_is_dropped_with_an_eraser_on_it_is_freed(erasers):
    pipe = tiny_pipeline(0)
    attachment = erasers[0][0].attach(pipe)
    encoder = weakref.ref(pipe.text_encoder)
    del pipe, attachment
    gc.collect()
    assert encoder() is None


def test_a_copy_of_what_is_edited_is_refused(shared_pipe, erasers):
    """It would share the hook's state, or lose it: neither may happen in silence."""
    with erasers[0][0].attach(shared_pipe):
        for thing in (shared_pipe, shared_pipe.text_encoder):
            with pytest.raises(SnceError, match=r"a copy of text_encoder\.final_layer_norm would lose the eraser"):
                copy.deepcopy(thing)
        with pytest.raises(SnceError, match="detach it first"):
            pickle.dumps(shared_pipe.text_encoder)
    copied = copy.deepcopy(shared_pipe)
    assert same_bits(encode(copied, list(PROMPTS))[0], encode(shared_pipe, list(PROMPTS))[0])


def test_what_is_saved_is_the_pipeline_without_the_eraser(shared_pipe, erasers, tmp_path):
    with erasers[0][0].attach(shared_pipe):
        shared_pipe.save_pretrained(tmp_path)
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path)
    assert same_bits(encode(loaded, list(PROMPTS))[0], encode(shared_pipe, list(PROMPTS))[0])


def test_an_encoder_that_was_put_in_the_place_of_the_edited_one_is_noticed(pipe, erasers):
    eraser, loud, _ = erasers[0]
    with eraser.attach(pipe):
        pipe.text_encoder = tiny_pipeline(0).text_encoder
        with pytest.raises(SnceError, match=r"text_encoder\.final_layer_norm ran without it.*attach the eraser again"):
            encode(pipe, loud)


def test_detaching_in_the_middle_of_a_call_is_no_fault_of_that_call(pipe, erasers):
    """As another thread may do."""
    eraser, loud, _ = erasers[0]
    plain = encode(pipe, loud)[0]
    attachment = eraser.attach(pipe)
    pipe.text_encoder.register_forward_pre_hook(lambda *_: attachment.detach())
    assert same_bits(encode(pipe, loud)[0], plain)


@pytest.mark.parametrize("path", ["final_layer_norm", "output.last_hidden_state"])
def test_an_eraser_that_is_taken_off_between_the_hooks_of_a_call_does_nothing_in_it(pipe, path):
    """As another thread may do: PyTorch lists the hooks of a call before it calls the first of them."""
    tower = TextTower(pipe.text_encoder, pipe.tokenizer, path)
    eraser, _, _ = eraser_for(tower, 0)
    plain = tower.encode(PROMPTS)
    attachment = eraser.attach(tower)
    assert not same_bits(tower.encode(PROMPTS, edited=True), plain)
    tower.module.register_forward_hook(lambda *_: attachment.detach(), prepend=True)
    assert same_bits(tower.encode(PROMPTS, edited=True), plain)


def test_no_thread_attaches_while_another_counts_what_is_attached(shared_pipe, erasers, monkeypatch):
    """A dictionary that changes while it is read raises."""
    free = []

    def look() -> None:
        free.append(module._lock.acquire(blocking=False))
        if free[-1]:
            module._lock.release()

    class Read(weakref.WeakValueDictionary):
        def __iter__(self):
            with ThreadPoolExecutor(1) as another:
                another.submit(look).result()
            return super().__iter__()

    monkeypatch.setattr(module, "_stations", Read())
    with erasers[0][0].attach(shared_pipe):
        pass
    assert free
    assert not any(free)
