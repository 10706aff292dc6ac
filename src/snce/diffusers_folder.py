"""Reading a folder of diffusers, from safetensors files."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_pipeline(model: str | Path, **options: Any) -> Any:
    """`DiffusionPipeline.from_pretrained` with these options, from safetensors files, in float32."""
    with without_torchvision_notice():
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline
        from torch.nn import Module

        pipe = DiffusionPipeline.from_pretrained(model, use_safetensors=True, **options)
    # half-precision files give a half-precision text encoder before a float32 denoiser
    for part in pipe.components.values():
        if isinstance(part, Module):
            part.float()
    return pipe


@contextmanager
def without_torchvision_notice() -> Iterator[None]:
    """Keep transformers from telling every user that its image processors, which are not used, lack torchvision."""

    def worth_saying(record: logging.LogRecord) -> bool:
        return "requires torchvision" not in record.getMessage()

    logger = logging.getLogger("transformers.utils.import_utils")
    logger.addFilter(worth_saying)
    try:
        yield
    finally:
        logger.removeFilter(worth_saying)
