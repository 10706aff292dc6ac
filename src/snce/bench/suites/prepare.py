"""From the options of a suite to all that its parts are made with: in the driver, and in every worker."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from snce.bench.suites.concepts import what_is_erased
from snce.bench.suites.draw import Sampling
from snce.bench.suites.judges import Panel
from snce.bench.suites.lineup import Studio, chosen_methods
from snce.bench.suites.prompts import load_prompts
from snce.bench.suites.report import check_settings, settings_of
from snce.bench.suites.work import Work
from snce.text.fingerprint import pipeline_fingerprints, scheduler_fingerprint
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from snce.bench.suites.config import SuiteConfig


def prepare(
    config: SuiteConfig, load: Callable[[str], Any], extractor: nn.Module | None, progress: bool = False
) -> tuple[Work, list[str]]:
    """What parts are made with, and why methods are left out of "all"; the settings are on record in the folder.

    Args:
        load, extractor: see `snce.bench.suites.run.run_suite`.
        progress: methods that train show how far they are.

    Raises:
        SnceError: bad options, prompts, concepts or models; a library that is not installed; results of another run in
            the folder.
    """
    prompts = load_prompts(config.suite, config.prompts, config.limit, config.seeds, config.category)
    erased, concepts, eraser = what_is_erased(config, prompts.labels)
    prompts = prompts.about(config.suite, erased)
    names, notes = chosen_methods(config, concepts)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    panel = Panel(config, prompts.labels, erased, device, extractor)
    pipe = load(config.model)
    TextTower.from_pipeline(pipe)  # a pipeline whose prompts cannot be edited is refused before any work
    pipe.safety_checker = None  # it blackens pictures: the judges would judge the checker
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    others = tuple(n for n in (*prompts.labels.objects, *prompts.labels.styles) if n not in erased)
    sampling = Sampling.of(pipe, config)
    styles = bool(erased) and set(erased) <= set(prompts.labels.styles)
    methods = Studio(pipe, config, eraser, progress, others, styles, sampling.steps).made(names)
    drawing = {
        **asdict(sampling),
        "scheduler": scheduler_fingerprint(pipe.scheduler),
        "denoiser runs in": "half precision" if device == "cuda" else "full precision",
    }
    settings = settings_of(config, prompts, erased, drawing, panel.describe(), pipeline_fingerprints(pipe))
    digest = check_settings(config.out, settings)
    return Work(config, pipe, prompts, concepts, methods, panel, sampling, settings, digest), notes
