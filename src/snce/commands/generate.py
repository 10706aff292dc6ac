"""`snce generate`: prompts to pictures, with or without erasers."""

import math
from dataclasses import dataclass
from functools import reduce
from inspect import signature
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from snce.commands.console import check_output, on_terminal, open_pipeline, stdout
from snce.errors import SnceError

if TYPE_CHECKING:
    from PIL.Image import Image

    from snce.erase.eraser import ConceptEraser

DESCRIPTION = """\
Draw prompts, with erasers on the text encoder if you like. Run it with and without, with the same seed, to compare.

Examples:
  snce generate emblem --prompt "a cigarette" --seed 1 --out before.png
  snce generate emblem --prompt "a cigarette" --seed 1 --out after.png --eraser cigarette.safetensors
  snce generate emblem --prompt "a bomb" --prompt "an apple" --eraser bomb.safetensors --eraser axe.safetensors \
--out grid.png

A prompt's picture depends on the prompt, the seed and the options alone, not on the other prompts of the command."""


@dataclass(frozen=True)
class GenerateOptions:
    """Draw prompts, with erasers if you like."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """"emblem", a diffusers folder, or a hub id."""
    prompt: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="TEXT")]
    """What to draw; give it several times for a grid of several prompts."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.png")]
    """The picture."""
    eraser: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="FILE.safetensors|hf://...")
    ] = ()
    """An eraser, here or on the hub: hf://OWNER/NAME/FILE.safetensors. Give it several times for several concepts."""
    strength: float | None = None
    """Strength of all erasers, in place of their own."""
    allow_mismatch: bool = False
    """Use erasers also on a text encoder that they were not made for."""
    negative_prompt: str | None = None
    """What to keep out of the pictures; erasers leave it alone."""
    seed: int = 0
    """Seed of the initial noise, the same for every prompt."""
    steps: int | None = None
    """Denoising steps; the model's default where left out."""
    guidance_scale: float | None = None
    """Weight of the prompt against no prompt; the model's default where left out."""
    height: int | None = None
    """Pixels; the model's default where left out."""
    width: int | None = None
    """Pixels; the model's default where left out."""
    device: str = "auto"
    """Where the model runs: cpu, cuda, cuda:1, mps; "auto" takes CUDA where there is one."""
    separate: bool = False
    """One file per prompt, FILE-1.png, FILE-2.png and so on, in place of a grid."""

    def check(self) -> None:
        """Raise SnceError if a value makes no sense. Not in `__post_init__`: the parser would frame the message."""
        from snce.text.unicode import check_unicode

        if not self.prompt:
            raise SnceError('nothing to draw: give --prompt "..." once or more')
        check_unicode((*self.prompt, self.negative_prompt or ""))
        for name in ("steps", "height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SnceError(f"--{name} {value} must be at least 1")
        for name in ("strength", "guidance_scale"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise SnceError(f"--{name.replace('_', '-')} {value} must be a finite number")
        if not 0 <= self.seed < 2**63:
            raise SnceError(f"--seed {self.seed} must lie between 0 and 2^63 - 1")


def run_generate(options: GenerateOptions) -> None:
    """Draw the prompts and write the picture or pictures, each whole or not at all.

    Raises:
        SnceError: an eraser that is damaged, not to be had, or for another text encoder; a picture that cannot be
            written.
    """
    from snce.commands.hub_files import local_file
    from snce.erase.eraser import ConceptEraser
    from snce.text.towers import TextTower, tower_at

    options.check()
    check_output(options.out, ".png")
    erasers = [ConceptEraser.load(local_file(name, ConceptEraser.hub_file)) for name in options.eraser]
    pipe = open_pipeline(options.model, options.device)
    check_draws(pipe)
    if not erasers:
        images = draw(pipe, options)
    else:
        eraser = reduce(or_, erasers)
        if options.strength is not None:
            eraser = eraser.with_strength(options.strength)
        with eraser.attach(pipe, allow_mismatch=options.allow_mismatch):
            images = draw(pipe, options)
        towers = TextTower.all_of(pipe)
        for part in eraser.parts:
            x, mask = tower_at(part.place, towers).read(options.prompt)
            show_firing(part, part.activations(x, mask=mask).tolist(), options.prompt)
    write_images(images, options)


def check_draws(pipe: Any) -> None:
    """Raise SnceError if the pipeline makes videos or sounds, before an hour goes into one that cannot be written."""
    parameters = signature(type(pipe).__call__).parameters
    for what, name in (("videos", "num_frames"), ("sounds", "audio_length_in_s")):
        if name in parameters:
            raise SnceError(
                f"{type(pipe).__name__} makes {what}, and this command writes pictures: attach the eraser in Python, "
                "with ConceptEraser.load(FILE).attach(pipe)"
            )


def draw(pipe: Any, options: GenerateOptions) -> "list[Image]":
    """One picture per prompt, one prompt at a time: a batch would change the last bits of the arithmetic."""
    import torch
    from rich.progress import Progress

    steps, guidance = defaults(options)
    given = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": options.negative_prompt,
        "height": options.height,
        "width": options.width,
    }
    known = signature(type(pipe).__call__).parameters
    arguments = {name: value for name, value in given.items() if value is not None}
    for name in arguments.keys() - known.keys():
        raise SnceError(f"{type(pipe).__name__} takes no {name.replace('_', ' ')}: leave it out")
    pipe.set_progress_bar_config(disable=True)
    images = []
    with Progress(transient=True, disable=not on_terminal()) as bar:
        task = bar.add_task("pictures", total=len(options.prompt))

        def advance(_pipe: Any, step: int, _timestep: Any, tensors: dict) -> dict:
            total = max(pipe.num_timesteps, 1)
            bar.update(task, completed=len(images) + min(1.0, (step + 1) / total))
            return tensors

        for prompt in options.prompt:
            generator = torch.Generator().manual_seed(options.seed)
            if "callback_on_step_end" in known:  # PixArt has none
                arguments["callback_on_step_end"] = advance
            output = pipe(prompt=prompt, generator=generator, **arguments)
            images.append(output.images[0])
    return images


def defaults(options: GenerateOptions) -> tuple[int | None, float | None]:
    """Steps and guidance scale; None leaves it to the pipeline's class."""
    from snce.pipelines import EMBLEM

    steps, guidance = options.steps, options.guidance_scale
    if options.model == EMBLEM:
        from snce.emblem.load import GUIDANCE, STEPS

        steps = STEPS if steps is None else steps
        guidance = GUIDANCE if guidance is None else guidance
    return steps, guidance


def show_firing(eraser: "ConceptEraser", activations: list[list[float]], prompts: tuple[str, ...]) -> None:
    """Print which neurons fired on which prompt. activations: [prompts][neurons]."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"which neurons fired in {eraser.place}")
    table.add_column("prompt", overflow="fold")
    table.add_column("concept")
    table.add_column("activation", justify="right")
    table.add_column("threshold", justify="right")
    table.add_column("fired")
    thresholds = eraser.neurons.threshold.tolist()
    for prompt, row in zip(prompts, activations, strict=True):
        for concept, activation, threshold in zip(eraser.concepts, row, thresholds, strict=True):
            fired = activation > max(threshold, 0)
            table.add_row(
                escape(prompt),
                escape(concept),
                f"{activation:.3f}",
                f"{threshold:.3f}",
                "[red]yes: edited[/red]" if fired else "no: untouched",
            )
    stdout().print(table)


def write_images(images: "list[Image]", options: GenerateOptions) -> None:
    """One file, a grid or, with `separate`, one file per prompt; prints their names."""
    from snce.storage import replacing

    files = {options.out: grid(images)}
    if options.separate and len(images) > 1:
        files = {options.out.with_stem(f"{options.out.stem}-{i}"): image for i, image in enumerate(images, 1)}
    for path, image in files.items():
        with replacing(path) as temporary:
            image.save(temporary, format="PNG")
        stdout().print(f"{path} written", soft_wrap=True, markup=False)


def grid(images: "list[Image]") -> "Image":
    """The pictures side by side, in rows of about as many as there are rows; one picture stays as it is."""
    from PIL import Image

    if len(images) == 1:
        return images[0]
    columns = math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return sheet
