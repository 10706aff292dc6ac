"""Drawing: each picture is a matter of its prompt and its seed alone."""

from dataclasses import replace

import pytest
import torch

from snce.demo.pictures import BATCH, draw
from snce.demo.prompts import test_set as make_test_set

STEPS = 3


@pytest.fixture(scope="module")
def prompts():
    return make_test_set("cigarette", BATCH + 2, 0, 0).direct


@pytest.fixture(scope="module")
def pictures(emblem, prompts):
    return draw(emblem, prompts, STEPS)


def test_pictures_are_bytes_of_colour(pictures):
    assert pictures.shape == (BATCH + 2, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    assert pictures.float().std() > 10


def test_a_picture_does_not_depend_on_how_many_others_are_drawn(emblem, prompts, pictures):
    for few in ([5], [BATCH + 1], [2, 7, 0]):
        assert torch.equal(draw(emblem, [prompts[i] for i in few], STEPS), pictures[few])


def test_drawing_again_gives_the_same_bytes(emblem, prompts, pictures):
    assert torch.equal(draw(emblem, prompts[:4], STEPS), pictures[:4])


def test_another_seed_or_another_prompt_gives_another_picture(emblem, prompts, pictures):
    other = [replace(prompts[0], seed=999), replace(prompts[0], text="a violin")]
    for picture in draw(emblem, other, STEPS):
        assert not torch.equal(picture, pictures[0])


def test_progress_counts_pictures_and_not_those_that_fill_up_a_batch(emblem, prompts):
    done = []
    draw(emblem, prompts, 1, done.append)
    assert done == [BATCH, 2]


def test_nothing_to_draw_is_no_pictures(emblem):
    assert draw(emblem, []).shape == (0, 3, 64, 64)
