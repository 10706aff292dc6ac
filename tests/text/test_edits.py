"""Attached edits can be switched off, and are while anything is measured."""

import threading

import pytest

from snce.text.edits import unedited
from snce.text.harvest import harvest
from tests.examples import PROMPTS, encode, same_bits

pytestmark = pytest.mark.usefixtures("left_as_found")


def test_within_unedited_the_embeddings_are_the_originals(shared_pipe, tower, erasers):
    eraser = erasers[0][0]
    plain = tower.encode(PROMPTS)
    with eraser.attach(shared_pipe):
        with unedited(), unedited():
            assert same_bits(encode(shared_pipe, list(PROMPTS))[0], plain)
        assert same_bits(encode(shared_pipe, list(PROMPTS))[0], eraser.edit(plain))
        with pytest.raises(KeyError), unedited():
            raise KeyError
        assert same_bits(encode(shared_pipe, list(PROMPTS))[0], eraser.edit(plain))


def test_unedited_in_one_thread_leaves_the_edits_of_others(shared_pipe, tower, erasers):
    eraser = erasers[0][0]
    plain, seen = tower.encode(PROMPTS), []
    with eraser.attach(shared_pipe), unedited():
        thread = threading.Thread(target=lambda: seen.append(tower.encode(PROMPTS, edited=True)))
        thread.start()
        thread.join()
    assert same_bits(seen[0], eraser.edit(plain))


@pytest.mark.parametrize("cached", [True, False])
def test_what_measures_embeddings_sees_the_originals_whatever_is_attached(
    shared_pipe, tower, erasers, tmp_path, cached
):
    eraser = erasers[0][0]
    plain, heights = tower.encode(PROMPTS), eraser.activations(PROMPTS, tower)
    expected = harvest(tower, PROMPTS).x
    with eraser.attach(shared_pipe), erasers[1][0].attach(shared_pipe):
        assert not same_bits(tower.encode(PROMPTS, edited=True), plain)
        assert same_bits(tower.encode(PROMPTS), plain)
        assert same_bits(tower.encode_tokens(tower.tokenize(PROMPTS)), plain)
        assert same_bits(eraser.activations(PROMPTS, tower), heights)
        data = harvest(tower, PROMPTS, tmp_path if cached else None)
    assert same_bits(data.x, expected.half() if cached else expected)
