"""The concept's name as negative prompt: what every user can do without a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from snce.bench.methods.denoise import check_pipeline
from snce.bench.methods.hooks import around_encode_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from inspect import BoundArguments

    from snce.bench.methods.base import Knob
    from snce.text.prompts import Concept


@dataclass(frozen=True)
class NegativePrompt:
    """prediction = neg + g (c - neg): the concept stands where the unconditional prediction stood.

    The same for epsilon and v, being linear. Several concepts: their names are joined by commas into one negative
    prompt, behind the user's own if there is one; the tokenizer cuts off what does not fit. Prompts must be encoded
    while the erasure is attached. Without guidance (guidance scale 1 or less) a negative prompt has no effect, and
    neither has this.
    """

    name: ClassVar[str] = "negative-prompt"
    knob: ClassVar[Knob | None] = None

    def prepare(self, pipe: Any, concepts: Sequence[Concept], seed: int = 0) -> NegativePromptErasure:
        """Nothing is fitted.

        Raises:
            SnceError: a pipeline of another kind.
        """
        check_pipeline(pipe)
        return NegativePromptErasure(", ".join(c.name for c in concepts))


@dataclass(frozen=True)
class NegativePromptErasure:
    text: str

    @property
    def nbytes(self) -> int:
        return len(self.text.encode())

    def attached(self, pipe: Any) -> AbstractContextManager[None]:
        return around_encode_prompt(pipe, self._encode)

    def _encode(self, call: Callable[[], Any], bound: BoundArguments) -> Any:
        given = bound.arguments
        if given.get("do_classifier_free_guidance") and given.get("negative_prompt_embeds") is None:
            given["negative_prompt"] = self._joined(given)
        return call()

    def _joined(self, given: dict[str, Any]) -> str | list[str]:
        own, prompt = given.get("negative_prompt"), given.get("prompt")
        if own is None and isinstance(prompt, str):
            return self.text
        if own is None:
            return [self.text] * len(given["prompt_embeds"] if prompt is None else prompt)
        if isinstance(own, str):
            return self._behind(own)
        return [self._behind(each) for each in own]

    def _behind(self, own: str) -> str:
        return f"{own}, {self.text}" if own.strip() else self.text
