"""What methods share that work on prompts: neutral prompts to fit on, and the hook that edits a prompt's embedding.

`snce.erase.attach` puts `ConceptEraser`s on a pipeline and nothing else; the rivals' edits are no such erasers.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from random import Random
from typing import TYPE_CHECKING, Any

from snce.bench.methods.base import replaced
from snce.errors import SnceError
from snce.text.edits import edits_are_off
from snce.text.tokens import Tokens
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from snce.text.prompts import Concept

_TELLTALE_SHARE = 0.05


def neutral_prompts(concepts: Sequence[Concept], limit: int | None = None, seed: int = 0) -> list[str]:
    """Distinct neutral prompts of the concepts, in which none of them shows.

    A prompt that is neutral to one concept may show another that is erased with it ("a beer" is neutral to cigarette).
    Such prompts are left out: those with the other's name, or with a word that 5 % of its targets have (two at least)
    and none of its neutral prompts, as synonyms are.

    Args:
        limit: draw at most so many, by `seed`; None for all, in their order.

    Raises:
        SnceError: no prompt is left.
    """
    signs = [_telltale_words(concept) for concept in concepts]
    kept: dict[str, None] = {}
    for i, concept in enumerate(concepts):
        others = [(c.name, signs[j]) for j, c in enumerate(concepts) if j != i]
        for prompt in concept.neutrals:
            if not any(_shows(prompt, name, telltale) for name, telltale in others):
                kept[prompt] = None
    if not kept:
        names = ", ".join(repr(c.name) for c in concepts)
        raise SnceError(f"every neutral prompt of {names} names another of them; add prompts that show none of them")
    prompts = list(kept)
    if limit is not None and limit < len(prompts):
        prompts = Random(f"neutral prompts {seed}").sample(prompts, limit)
    return prompts


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _telltale_words(concept: Concept) -> set[str]:
    usual = {word for prompt in concept.neutrals for word in _words(prompt)}
    count = Counter(word for prompt in concept.targets for word in set(_words(prompt)) - usual)
    return {word for word, n in count.items() if n >= max(2, _TELLTALE_SHARE * len(concept.targets))}


def _shows(prompt: str, name: str, telltale: set[str]) -> bool:
    words = _words(prompt)
    return f" {' '.join(_words(name))} " in f" {' '.join(words)} " or not telltale.isdisjoint(words)


@contextmanager
def prompts_edited(pipe: Any, edit: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Inside the block the denoiser reads edit(x, kinds) instead of x, for prompts; negative prompts stay as they are.

    The rules are those of an attached `ConceptEraser`: given `prompt_embeds` are used as they are; whoever calls the
    text encoder directly gets edited embeddings, but within `unedited()`. For one thread at a time.

    Args:
        edit: from embeddings x [b, positions, d] and kinds [b, positions] (`snce.text.positions`) to edited ones, in
        the
            dtype of x.

    Raises:
        SnceError: not a pipeline of Stable Diffusion's classes.
    """
    tower = TextTower.from_pipeline(pipe)
    tower.kinds(tower.tokenize([""]))  # what it asks the pipeline for, now: not from within a hook
    original = pipe.encode_prompt
    parameters = signature(original)
    tokens: Tensor | None = None
    left: int | None = None  # calls that are still for the prompt; None outside encode_prompt

    def read_tokens(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        nonlocal tokens
        tokens = args[0] if args else kwargs["input_ids"]

    def change(_module: nn.Module, _inputs: Any, x: Tensor) -> Tensor | None:
        nonlocal left
        if edits_are_off() or tokens is None:
            return None
        if left is not None:
            left -= 1
            if left < 0:
                return None
        return edit(x, tower.kinds(Tokens(tokens.cpu())).to(x.device))

    @wraps(original)
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        arguments = parameters.bind(*args, **kwargs).arguments
        # with clip_skip the pipeline calls the final norm once more, on the hidden state that it chose
        calls = 1 if arguments.get("clip_skip") is None else 2
        left = calls if arguments.get("prompt_embeds") is None else 0
        try:
            return original(*args, **kwargs)
        finally:
            left = None

    handles = [
        tower.encoder.register_forward_pre_hook(read_tokens, with_kwargs=True),
        tower.module.register_forward_hook(change, prepend=True),
    ]
    try:
        with replaced(pipe, "encode_prompt", encode_prompt):
            yield
    finally:
        for handle in handles:
            handle.remove()
