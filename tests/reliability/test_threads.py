"""Threads: pipelines that draw at once, each with its own eraser, draw what they would draw alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from threading import Barrier, Event, local
from typing import TYPE_CHECKING

import torch

from snce.emblem.load import load
from snce.text.harvest import harvest
from snce.text.towers import TextTower
from tests.examples import PROMPTS, eraser_for, picture, same_bits, tiny_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import StableDiffusionPipeline

ROUNDS = 3


def at_once(*works: Callable[[], object]) -> list:
    """What each returns, all run at the same time."""
    start = Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def sharing(pipe: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """Another pipeline with the same text encoder, and a denoiser of its own. And a tokenizer: those of transformers
    keep the padding of a call as a state."""
    other = tiny_pipeline(1)
    other.register_modules(text_encoder=pipe.text_encoder, tokenizer=deepcopy(pipe.tokenizer))
    return other


def draws(pipe: StableDiffusionPipeline) -> list[bytes]:
    return [picture(pipe, prompt, seed) for seed in range(ROUNDS) for prompt in PROMPTS[:2]]


def test_two_pipelines_with_different_erasers_draw_at_once_what_each_draws_alone():
    pipes = [tiny_pipeline(0), tiny_pipeline(1)]
    erasers = [eraser_for(TextTower.from_pipeline(pipe), seed)[0] for seed, pipe in enumerate(pipes)]
    plain = [draws(pipe) for pipe in pipes]
    for pipe, eraser in zip(pipes, erasers, strict=True):
        eraser.attach(pipe)
    alone = [draws(pipe) for pipe in pipes]
    assert all(a != p for a, p in zip(alone, plain, strict=True))
    assert at_once(*(lambda pipe=pipe: draws(pipe) for pipe in pipes)) == alone


def test_two_copies_of_emblem_with_different_erasers_draw_at_once_what_each_draws_alone():
    pipes, captions = [load(), load()], ("a cigarette", "a bomb", "a church", "an apple", "a red axe", "two cats")
    tower = TextTower.from_pipeline(pipes[0])
    erasers, loud, _ = zip(*(eraser_for(tower, seed, captions) for seed in (0, 3)), strict=True)

    def both(pipe: StableDiffusionPipeline) -> list[bytes]:
        result = []
        for prompt in (loud[0][0], loud[1][0]):
            noise = torch.Generator().manual_seed(3)
            result.append(pipe(prompt, num_inference_steps=2, guidance_scale=2.0, generator=noise).images[0].tobytes())
        return result

    plain = both(pipes[0])
    for pipe, eraser in zip(pipes, erasers, strict=True):
        eraser.attach(pipe)
    alone = [both(pipe) for pipe in pipes]
    assert all(found[i] != plain[i] for i, found in enumerate(alone))
    assert alone[0] != alone[1]
    assert at_once(*(lambda pipe=pipe: both(pipe) for pipe in pipes)) == alone


def test_the_same_eraser_on_two_pipelines_and_taken_off_one_of_them():
    pipes = [tiny_pipeline(0), tiny_pipeline(0)]
    eraser, loud, _ = eraser_for(TextTower.from_pipeline(pipes[0]), 0)
    before = picture(pipes[0], loud[0])
    first, _second = (eraser.attach(pipe) for pipe in pipes)
    after = picture(pipes[0], loud[0])
    assert after != before
    assert at_once(*(lambda pipe=pipe: picture(pipe, loud[0]) for pipe in pipes)) == [after, after]
    first.detach()
    assert at_once(*(lambda pipe=pipe: picture(pipe, loud[0]) for pipe in pipes)) == [before, after]


def test_an_eraser_belongs_to_the_text_encoder_and_so_to_all_pipelines_that_share_it():
    pipe = tiny_pipeline(0)
    other = sharing(pipe)
    eraser, loud, quiet = eraser_for(TextTower.from_pipeline(pipe), 0)
    before = [picture(p, loud[0]) for p in (pipe, other)]
    silent = picture(other, quiet[0])
    with eraser.attach(pipe):
        assert all(picture(p, loud[0]) != b for p, b in zip((pipe, other), before, strict=True))
        assert picture(other, quiet[0]) == silent
        with eraser.attach(other):  # twice is once
            once = [picture(p, loud[0]) for p in (pipe, other)]
        assert [picture(p, loud[0]) for p in (pipe, other)] == once
    assert [picture(p, loud[0]) for p in (pipe, other)] == before


def test_pipelines_that_share_an_encoder_keep_their_negative_prompts_apart():
    """Each thread's encoder calls are for prompts or negative prompts of its own pipeline."""
    pipe = tiny_pipeline(0)
    other = sharing(pipe)
    eraser, loud, quiet = eraser_for(TextTower.from_pipeline(pipe), 0)
    with eraser.attach(pipe), eraser.attach(other):
        calls = [
            lambda: [picture(pipe, quiet[0], seed, negative_prompt=loud[0]) for seed in range(ROUNDS)],
            lambda: [picture(other, loud[0], seed, negative_prompt=quiet[0]) for seed in range(ROUNDS)],
        ]
        alone = [call() for call in calls]
        assert at_once(*calls) == alone


def test_reading_an_encoder_in_one_thread_while_another_draws_with_it():
    """Harvesting and activations hook the encoder and switch off what is attached to it: for their own thread alone."""
    pipe = tiny_pipeline(0)
    other = sharing(pipe)
    tower = TextTower.from_pipeline(pipe)
    eraser, loud, _ = eraser_for(tower, 0)
    embeddings, activations = tower.encode(PROMPTS), eraser.activations(list(PROMPTS), tower)
    plain, reading, drawn = picture(other, loud[0]), local(), Event()

    def wait_in_the_encoder(*_: object) -> None:
        if getattr(reading, "here", False):
            assert drawn.wait(60)

    def read() -> list[tuple[torch.Tensor, ...]]:
        reading.here = True
        found = []
        for _ in range(2 * ROUNDS):
            found += [(tower.encode(PROMPTS), harvest(tower, PROMPTS).x, eraser.activations(list(PROMPTS), tower))]
        return found

    def draw() -> list[bytes]:
        try:
            first = picture(other, loud[0])
        finally:
            drawn.set()
        return [first, *(picture(other, loud[0]) for _ in range(2 * ROUNDS))]

    with eraser.attach(pipe):
        edited = picture(other, loud[0])
        hook = tower.encoder.register_forward_pre_hook(wait_in_the_encoder)
        found, pictures = at_once(read, draw)
        hook.remove()
    assert edited != plain
    assert set(pictures) == {edited}
    for encoded, harvested, heights in found:
        assert same_bits(encoded, embeddings)
        assert same_bits(harvested, embeddings.float())
        assert same_bits(heights, activations)


def test_attaching_and_detaching_while_another_thread_draws_gives_one_picture_or_the_other():
    pipe = tiny_pipeline(0)
    other = sharing(pipe)
    eraser, loud, _ = eraser_for(TextTower.from_pipeline(pipe), 0)
    without = picture(other, loud[0])
    with eraser.attach(pipe):
        with_it = picture(other, loud[0])

    def toggle() -> None:
        for _ in range(8 * ROUNDS):
            with eraser.attach(pipe):
                pass

    found, _ = at_once(lambda: [picture(other, loud[0]) for _ in range(2 * ROUNDS)], toggle)
    assert set(found) <= {without, with_it}
    assert picture(other, loud[0]) == without
