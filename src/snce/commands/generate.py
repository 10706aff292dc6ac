"""`snce generate`: prompts to pictures, with or without erasers."""

from typing import TYPE_CHECKING, Any

from snce.commands.console import check_folder, check_output, open_pipeline, stdout
from snce.commands.generate_options import GenerateOptions

if TYPE_CHECKING:
    from snce.erase.eraser import ConceptEraser

DESCRIPTION = """\
Draw prompts, with erasers on the text encoder if you like. Run it with and without, with the same seed, to compare.

Examples:
  snce generate emblem --prompt "a cigarette" --seed 1 --out before.png
  snce generate emblem --prompt "a cigarette" --seed 1 --out after.png --eraser cigarette.safetensors
  snce generate emblem --prompt "a bomb" --prompt "an apple" --eraser bomb.safetensors --eraser axe.safetensors \
--out grid.png
  snce generate emblem --prompts prompts.txt --workers 2 --out pictures

A prompt's picture depends on the prompt, the seed and the options alone, not on the other prompts of the command. With
--prompts, the same command given again goes on where it was interrupted."""


def run_generate(options: GenerateOptions) -> None:
    """Draw the prompts and write the picture or pictures, each whole or not at all.

    Raises:
        SnceError: an eraser that is damaged, not to be had, or for another text encoder; a picture that cannot be
            written; a folder with other pictures; workers that were lost, or that have another model or eraser.
    """
    from snce.commands.drawing import check_draws, open_eraser

    options.check()
    if options.prompts is None:
        check_output(options.out, ".png")
        prompts = list(options.prompt)
    else:
        from snce.text.prompts import read_prompts

        check_folder(options.out)
        prompts = read_prompts(options.prompts)
    eraser = open_eraser(options)
    pipe = open_pipeline(options.model, options.device)
    check_draws(pipe)
    if eraser is not None:  # refused now, not by each of the workers
        eraser.attach(pipe, allow_mismatch=options.allow_mismatch).detach()
    (_draw_few if options.prompts is None else _draw_many)(pipe, eraser, prompts, options)


def _draw_few(pipe: Any, eraser: "ConceptEraser | None", prompts: list[str], options: GenerateOptions) -> None:
    from snce.commands.drawing import pictures
    from snce.commands.firing import activations, show_firing
    from snce.commands.picture_files import write_images

    drawn = dict(pictures(pipe, eraser, list(enumerate(prompts)), options))
    if eraser is not None:
        for part, rows in activations(eraser, pipe, prompts):
            show_firing(part, rows, prompts)
    write_images([drawn[i] for i in range(len(prompts))], options)


def _draw_many(pipe: Any, eraser: "ConceptEraser | None", prompts: list[str], options: GenerateOptions) -> None:
    from snce.commands.drawing import inputs_of, pictures
    from snce.commands.firing import fired_concepts
    from snce.commands.picture_files import Series
    from snce.engines.shards import shard

    mine = shard(list(enumerate(prompts)), options.shard)
    inputs = inputs_of(pipe, options)
    series = Series(options.out, prompts, options, inputs)
    for i, image in pictures(pipe, eraser, [item for item in mine if not series.has(item[0])], options, inputs):
        series.put(i, image)
    series.write_list(None if eraser is None else fired_concepts(eraser, pipe, prompts))
    left = sum(not series.has(i) for i in range(len(prompts)))
    rest = f"; {left} are left for other shards" if left else ""
    stdout().print(f"{options.out}: {len(prompts) - left} pictures{rest}", soft_wrap=True, markup=False)
