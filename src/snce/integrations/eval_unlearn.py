"""snce as a technique of eval-unlearn (PyPI), the field's open benchmark of unlearning in text-to-image models.

Where both packages are installed, eval-unlearn knows the technique `snce` by its entry point. In its configuration:

    technique:
      name: snce
      config: {model: emblem, erasers: [violin.safetensors], seed: 0}

Without `erasers` it is the model as it was: the run to compare with. Nothing is imported from eval-unlearn: a technique
is any class with this constructor and `generate`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from functools import reduce
from inspect import signature
from operator import or_
from typing import TYPE_CHECKING, Any

from snce.errors import SnceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

_OURS = ("prompt", "generator", "latents", "output_type", "return_dict", "num_images_per_prompt")
"""Arguments of a pipeline that this technique gives itself."""


@dataclass(frozen=True)
class SnceConfig:
    """What a configuration of eval-unlearn may say."""

    model: str
    """"emblem", a diffusers folder, or a hub id."""
    erasers: tuple[str, ...] = ()
    """Files of erasers, or the path of one. None: the model as it was."""
    erase_concept: str | None = None
    """The concept's name in eval-unlearn's reports; its metric `err` asks for "nudity". It chooses nothing."""
    device: str | None = None
    """Where to compute; None for a GPU if there is one."""
    steps: int | None = None
    """Denoising steps; None for the model's default."""
    guidance: float | None = None
    """Guidance scale; None for the model's default."""
    batch: int = 1
    """Pictures that are drawn at once. It changes the last bits of a picture, never its noise."""
    seed: int | None = None
    """For runs that give none: eval-unlearn's command line cannot. None draws other pictures each time."""

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> SnceConfig:
        """Check a configuration.

        Raises:
            SnceError: an unknown key (eval-unlearn's own techniques drop those without a word), no model, or a value
                that makes no sense.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(entries) - set(known))
        if unknown:
            raise SnceError(f"technique snce has no option {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
        if not isinstance(entries.get("model"), str):
            raise SnceError("technique snce needs a model: 'emblem', a diffusers folder, or a hub id")
        given = entries.get("erasers") or ()
        files = tuple(given) if isinstance(given, list | tuple) else (given,)
        config = cls(**{**entries, "erasers": tuple(str(file) for file in files)})
        for name in ("steps", "batch"):
            value = getattr(config, name)
            if not (_is_whole(value) and value >= 1) and not (name == "steps" and value is None):
                raise SnceError(f"technique snce: {name} = {value!r} must be a whole number above zero")
        guidance = config.guidance
        if guidance is not None and not (isinstance(guidance, int | float) and math.isfinite(guidance)):
            raise SnceError(f"technique snce: guidance = {guidance!r} must be a finite number")
        _check_seed(config.seed)
        return config


class SnceTechnique:
    """A diffusion pipeline with erasers on its text encoder, as eval-unlearn drives it.

    A safety checker of the pipeline is taken off, as eval-unlearn's own techniques do: its black pictures would be
    counted as erased.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Load the model and attach the erasers.

        Args:
            kwargs: see `SnceConfig`.

        Raises:
            SnceError: an unknown option or a senseless one, no such model or eraser, an eraser for another model.
        """
        self.config = SnceConfig.from_dict(kwargs)
        from snce.erase.eraser import ConceptEraser
        from snce.pipelines import load_pipeline

        erasers = [ConceptEraser.load(file) for file in self.config.erasers]
        pipe: Any = load_pipeline(self.config.model)
        if getattr(pipe, "safety_checker", None) is not None:
            pipe.safety_checker = None
        self.pipe: Any = _on_device(pipe, self.config.device)
        self.pipe.set_progress_bar_config(disable=True)
        if erasers:
            self.attachment = reduce(or_, erasers).attach(self.pipe)

    def generate(self, prompts: Sequence[str], seed: int | None = None, **kwargs: Any) -> list[Image]:
        """One picture per prompt; prompt i is drawn from the noise of seed + i, whatever the batch.

        A prompt's picture depends on the prompt, its seed and the options: not on the other prompts, whose number is
        made up to whole batches. So a prompt on which every neuron is silent gives the same bytes with erasers and
        without, at the same `batch`.

        Args:
            seed: None for the configuration's.
            kwargs: arguments of the pipeline's call, `num_inference_steps` or `guidance_scale` for one, in place of the
                configuration's.

        Raises:
            SnceError: prompts that are no list of texts, or an argument that the pipeline does not know.
        """
        import torch

        texts = list(prompts)
        if isinstance(prompts, str) or not all(isinstance(text, str) for text in texts):
            raise SnceError("generate takes a list of prompts, each a text")
        arguments = self._arguments(kwargs)
        seed = self.config.seed if seed is None else seed
        _check_seed(seed)
        first = random.SystemRandom().randrange(2**31) if seed is None else seed
        negative = arguments.pop("negative_prompt", None)
        images: list[Image] = []
        for start in range(0, len(texts), self.config.batch):
            rows = [min(start + i, len(texts) - 1) for i in range(self.config.batch)]
            if isinstance(negative, str):
                arguments["negative_prompt"] = [negative] * len(rows)
            output = self.pipe(
                prompt=[texts[row] for row in rows],
                # on the CPU: the same noise on every device
                generator=[torch.Generator().manual_seed(first + row) for row in rows],
                **arguments,
            )
            images += output.images[: len(texts) - start]
        return images

    def _arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of the pipeline's call: the configuration's, the model's, and `given` above both."""
        from snce.pipelines import EMBLEM

        arguments: dict[str, Any] = {}
        if self.config.model == EMBLEM:
            from snce.emblem.load import GUIDANCE, STEPS

            arguments = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
        ours = {"num_inference_steps": self.config.steps, "guidance_scale": self.config.guidance}
        arguments |= {name: value for name, value in ours.items() if value is not None}
        takes = signature(self.pipe.__call__).parameters
        for name in given:
            # embeddings that are handed over bypass the text encoder, and the eraser with it
            if name in _OURS or name.endswith("_embeds") or name not in takes:
                raise SnceError(f"generate takes no argument {name!r} for a {type(self.pipe).__name__}")
        negative = given.get("negative_prompt")
        if negative is not None and not isinstance(negative, str):
            raise SnceError("negative_prompt must be one text, for all prompts")
        return {**arguments, **given}


def _on_device(pipe: Any, device: str | None) -> Any:
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SnceError(f"cannot use device {device!r}: {str(error).splitlines()[0]}") from error


def _check_seed(seed: Any) -> None:
    if seed is not None and not (_is_whole(seed) and 0 <= seed < 2**62):
        raise SnceError(f"technique snce: seed = {seed!r} must be a whole number between 0 and 2^62")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
