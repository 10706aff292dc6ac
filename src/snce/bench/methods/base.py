"""What an erasure method is to the benchmark.

A method is a frozen dataclass of settings. `prepare` turns a pipeline and concepts into an `Erasure`; the pipeline that
it was given is left as it was. While an erasure is `attached`, the pipeline draws without the concepts; afterwards it
is as before, whatever happened. All methods work on pipelines of Stable Diffusion's classes: a CLIP text encoder and a
`UNet2DConditionModel` with classifier-free guidance.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from snce.text.prompts import Concept


@dataclass(frozen=True)
class Knob:
    """The one setting of a method that is tuned on validation concepts."""

    field: str
    grid: tuple[float, ...]
    """Values to try, the published one among them."""


class Erasure(Protocol):
    """Concepts erased, ready for use."""

    @property
    def nbytes(self) -> int:
        """Size of what must be shipped to use it."""
        ...

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        """The pipeline draws without the concepts inside this block, and is as before afterwards."""
        ...


class Method(Protocol):
    """An erasure method with its settings."""

    name: ClassVar[str]
    knob: ClassVar[Knob | None]
    """What is tuned; None: nothing."""

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> Erasure:
        """Fit whatever the method fits. `seed` decides all that is random in it.

        Raises:
            SnceError: a pipeline of another kind.
        """
        ...


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[Any]:
    """`owner.name` is `value` inside the block; yields what stood there, and puts it back (or takes `value` away)."""
    own = vars(owner)
    had, before = name in own, getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield before
    finally:
        if had:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


@contextmanager
def loaded(module: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """`module` has these values of its parameters inside the block, and its own afterwards, bit for bit."""
    parameters = dict(module.named_parameters())
    before = {name: parameters[name].data for name in weights}
    for name, value in weights.items():
        parameters[name].data = value.to(parameters[name])
    try:
        yield
    finally:
        for name, value in before.items():
            parameters[name].data = value


def nbytes(tensors: dict[str, Tensor]) -> int:
    """Bytes of the tensors as they would be stored."""
    return sum(t.numel() * t.element_size() for t in tensors.values())
