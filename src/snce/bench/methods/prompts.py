"""What methods share that work on prompts: neutral prompts to fit on, and the hook that edits a prompt's embedding.

`snce.erase.attach` puts `ConceptEraser`s on a pipeline and nothing else; the rivals' edits are no such erasers.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from snce.erase.watch import watch_prompts
from snce.errors import SnceError
from snce.text.edits import edits_are_off
from snce.text.tokens import Tokens, tokens_in
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from snce.text.prompts import Concept

_TELLTALE_SHARE = 0.05


def neutral_prompts(concepts: Sequence[Concept], limit: int | None = None, seed: int = 0) -> list[str]:
    """Distinct neutral prompts of the concepts, in which none of them shows.

    A prompt that is neutral to one concept may show another that is erased with it ("a beer" is neutral to cigarette).
    Such prompts are left out.

    Args:
        limit: draw at most so many, by `seed`; None for all, in their order.

    Raises:
        SnceError: no prompt is left.
    """
    signs = [_Signs.of(concept) for concept in concepts]
    kept: dict[str, None] = {}
    for i, concept in enumerate(concepts):
        others = signs[:i] + signs[i + 1 :]
        kept.update(dict.fromkeys(p for p in concept.neutrals if not any(sign.in_(p) for sign in others)))
    if not kept:
        names = ", ".join(repr(c.name) for c in concepts)
        raise SnceError(f"every neutral prompt of {names} names another of them; add prompts that show none of them")
    prompts = list(kept)
    if limit is not None and limit < len(prompts):
        prompts = Random(f"neutral prompts {seed}").sample(prompts, limit)
    return prompts


def without_concepts(prompts: Iterable[str], concepts: Sequence[Concept]) -> list[str]:
    """The prompts that show none of the concepts.

    One shows that has a concept's name in it, or a word that 5 % of its targets have (two at least) and none of its
    neutral prompts, as synonyms are.
    """
    signs = [_Signs.of(concept) for concept in concepts]
    return [prompt for prompt in prompts if not any(sign.in_(prompt) for sign in signs)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True)
class _Signs:
    """What a concept is known by in a prompt."""

    name: str
    words: frozenset[str]

    @classmethod
    def of(cls, concept: Concept) -> _Signs:
        usual = {word for prompt in concept.neutrals for word in _words(prompt)}
        count = Counter(word for prompt in concept.targets for word in set(_words(prompt)) - usual)
        telltale = {word for word, n in count.items() if n >= max(2, _TELLTALE_SHARE * len(concept.targets))}
        return cls(f" {' '.join(_words(concept.name))} ", frozenset(telltale))

    def in_(self, prompt: str) -> bool:
        words = _words(prompt)
        return self.name in f" {' '.join(words)} " or not self.words.isdisjoint(words)


@contextmanager
def prompts_edited(pipe: Any, edit: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Inside the block the denoiser reads edit(x, kinds) instead of x, for prompts; negative prompts stay as they are.

    The rules are those of an attached `ConceptEraser`: given `prompt_embeds` are used as they are; whoever calls the
    text encoder directly gets edited embeddings, but within `unedited()`. For one thread at a time.

    Args:
        edit: from embeddings x [b, positions, d] and kinds [b, positions] (`snce.text.positions`) to edited ones, in
            the dtype of x.

    Raises:
        SnceError: not a pipeline of Stable Diffusion's classes.
    """
    tower = TextTower.from_pipeline(pipe)
    tower.kinds(tower.tokenize([""]))  # what it asks the pipeline for, now: not from within a hook
    it = _PromptEdit(tower, edit)
    handles = [
        tower.encoder.register_forward_pre_hook(it.read_tokens, with_kwargs=True),
        tower.module.register_forward_hook(it.change, prepend=True),
    ]
    undo = watch_prompts(pipe, [it], guard=False)
    try:
        yield
    finally:
        undo()
        for handle in handles:
            handle.remove()


class _PromptEdit:
    """An edit in one tower that `watch_prompts` tells which calls are for prompts."""

    def __init__(self, tower: TextTower, edit: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.tower = tower
        self._edit = edit
        self._tokens: Tokens | None = None
        self._left: int | None = None
        self._called = False

    def expect(self, positive_calls: int | None) -> None:
        self._left, self._called = positive_calls, False

    def was_missed(self) -> bool:
        return not self._called

    def was_called_too_often(self) -> bool:
        return self._left is not None and self._left < -1

    def read_tokens(self, _module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self._tokens = tokens_in(args, kwargs)

    def change(self, _module: nn.Module, _inputs: Any, x: Tensor) -> Tensor | None:
        self._called = True
        if edits_are_off() or self._tokens is None:
            return None
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                return None
        return self._edit(x, self.tower.kinds(Tokens(self._tokens.ids.cpu())).to(x.device))
