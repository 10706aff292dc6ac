"""Drawing the pictures of `snce generate`, in this process or in others."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import reduce
from inspect import signature
from operator import or_
from typing import TYPE_CHECKING, Any

from snce.commands.console import on_terminal, open_pipeline
from snce.engines.spread import check_same, for_all_workers, spread, workers_of
from snce.errors import SnceError
from snce.pipelines import name_for_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from snce.commands.generate_options import GenerateOptions
    from snce.erase.attach import Attachment
    from snce.erase.eraser import ConceptEraser


def open_eraser(options: GenerateOptions) -> ConceptEraser | None:
    """All erasers that are named, as one; None if none are.

    Raises:
        SnceError: one is damaged or not to be had.
    """
    from snce.erase.eraser import ConceptEraser

    if not options.eraser:
        return None
    eraser = reduce(or_, map(ConceptEraser.load, _eraser_files(options)))
    return eraser if options.strength is None else eraser.with_strength(options.strength)


def _eraser_files(options: GenerateOptions) -> list[Path]:
    from snce.commands.hub_files import local_file
    from snce.erase.eraser import ConceptEraser

    return [local_file(name, ConceptEraser.hub_file) for name in options.eraser]


def inputs_of(pipe: Any, options: GenerateOptions) -> dict[str, str]:
    """What pictures are drawn with: fingerprints of the pipeline's parts, its scheduler and the eraser files, in 16 hex
    digits, and its class. Names do not tell: a path may hold another model by now, or on another machine."""
    from snce.text.fingerprint import pipeline_fingerprints, scheduler_fingerprint

    files = (hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in _eraser_files(options))
    erasers = {f"eraser {i}": digest for i, digest in enumerate(files, 1)}
    return {
        "pipeline": type(pipe).__name__,
        "scheduler": scheduler_fingerprint(pipe.scheduler),
        **pipeline_fingerprints(pipe),
        **erasers,
    }


def check_draws(pipe: Any) -> None:
    """Raise SnceError if the pipeline makes videos or sounds, before an hour goes into one that cannot be written."""
    parameters = signature(type(pipe).__call__).parameters
    for what, name in (("videos", "num_frames"), ("sounds", "audio_length_in_s")):
        if name in parameters:
            raise SnceError(
                f"{type(pipe).__name__} makes {what}, and this command writes pictures: attach the eraser in Python, "
                "with ConceptEraser.load(FILE).attach(pipe)"
            )


def pictures(
    pipe: Any,
    eraser: ConceptEraser | None,
    prompts: Sequence[tuple[int, str]],
    options: GenerateOptions,
    inputs: dict[str, str] | None = None,
) -> Iterator[tuple[int, Image]]:
    """A picture for each numbered prompt, as they are done, with a progress bar.

    Args:
        pipe: for this process; workers load their own.
        inputs: `inputs_of` these, where they are known by now.

    Raises:
        SnceError: an option that the pipeline does not know, an eraser for another text encoder, a lost worker, or one
            with another model or eraser.
    """
    from rich.progress import Progress

    with Progress(transient=True, disable=not on_terminal()) as bar:
        task = bar.add_task("pictures", total=len(prompts))
        workers = workers_of(options.engine, options.workers)
        if workers is None:
            done = _drawn_here(pipe, eraser, prompts, options, lambda n: bar.update(task, completed=n))
        else:
            erasers = tuple(map(for_all_workers, options.eraser))
            theirs = replace(options, model=name_for_workers(options.model), eraser=erasers)
            gpu = options.device != "cpu"
            place = (theirs, inputs or inputs_of(pipe, options))
            done = spread(options.engine, workers, _Worker.start, place, _Worker.draw, prompts, gpu)
        for i, image in done:
            bar.advance(task, 1 if workers else 0)
            yield i, image


def _drawn_here(
    pipe: Any,
    eraser: ConceptEraser | None,
    prompts: Sequence[tuple[int, str]],
    options: GenerateOptions,
    advance: Callable[[float], object],
) -> Iterator[tuple[int, Image]]:
    with nullcontext() if eraser is None else _attach(eraser, pipe, options):
        for done, (i, prompt) in enumerate(prompts):

            def on_step(step: int, done: int = done) -> None:
                advance(done + min(1.0, (step + 1) / max(pipe.num_timesteps, 1)))

            yield i, draw(pipe, prompt, options, on_step)


def draw(pipe: Any, prompt: str, options: GenerateOptions, on_step: Callable[[int], object] | None = None) -> Image:
    """One picture. One prompt at a time: a batch would change the last bits of the arithmetic.

    Raises:
        SnceError: an option that the pipeline does not know, or a value that it refuses.
    """
    import torch

    steps, guidance = defaults(options)
    given = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": options.negative_prompt,
        "height": options.height,
        "width": options.width,
    }
    known = signature(type(pipe).__call__).parameters
    arguments: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in arguments.keys() - known.keys():
        raise SnceError(f"{type(pipe).__name__} takes no {name.replace('_', ' ')}: leave it out")
    pipe.set_progress_bar_config(disable=True)

    def advance(_pipe: Any, step: int, _timestep: Any, tensors: dict) -> dict:
        if on_step is not None:
            on_step(step)
        return tensors

    if "callback_on_step_end" in known:  # PixArt has none
        arguments["callback_on_step_end"] = advance
    generator = torch.Generator().manual_seed(options.seed)
    try:
        return pipe(prompt=prompt, generator=generator, **arguments).images[0]
    except SnceError:
        raise
    except ValueError as error:  # by which diffusers refuses what it is called with
        raise SnceError(f"{type(pipe).__name__} refuses these options: {error}") from error


def defaults(options: GenerateOptions) -> tuple[int | None, float | None]:
    """Steps and guidance scale; None leaves it to the pipeline's class."""
    from snce.pipelines import EMBLEM

    steps, guidance = options.steps, options.guidance_scale
    if options.model == EMBLEM:
        from snce.emblem.load import GUIDANCE, STEPS

        steps = STEPS if steps is None else steps
        guidance = GUIDANCE if guidance is None else guidance
    return steps, guidance


def _attach(eraser: ConceptEraser, pipe: Any, options: GenerateOptions) -> Attachment:
    """Without its warnings: the command has attached it before, and told them."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        return eraser.attach(pipe, allow_mismatch=options.allow_mismatch)


class _Worker:
    """A process with a pipeline of its own, and the erasers on it."""

    pipe: Any
    options: GenerateOptions

    @classmethod
    def start(cls, options: GenerateOptions, inputs: dict[str, str]) -> None:
        """inputs: the driver's."""
        pipe, eraser = open_pipeline(options.model, options.device), open_eraser(options)
        check_same(inputs_of(pipe, options), inputs)
        if eraser is not None:
            _attach(eraser, pipe, options)
        cls.pipe, cls.options = pipe, options

    @classmethod
    def draw(cls, number: int, prompt: str) -> tuple[int, Image]:
        return number, draw(cls.pipe, prompt, cls.options)
