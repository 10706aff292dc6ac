"""No erasure: the base model, by which all others are measured."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.bench.methods.base import Knob
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class Nothing:
    """Leaves the pipeline as it is."""

    name: ClassVar[str] = "none"
    knob: ClassVar[Knob | None] = None

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> Nothing:
        return self

    @property
    def nbytes(self) -> int:
        return 0

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        return nullcontext()
