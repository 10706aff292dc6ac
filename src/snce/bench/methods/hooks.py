"""Stand-ins for a pipeline's denoiser and its `encode_prompt`, for as long as an erasure is attached."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from hashlib import sha1
from inspect import signature
from typing import TYPE_CHECKING, Any

from snce.bench.methods.base import replaced
from snce.bench.methods.denoise import tokenize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from inspect import BoundArguments

    from torch import Tensor

    Call = Callable[[Tensor, Any, Tensor], Tensor]
    """The UNet: sample [b, c, h, w], timestep, embeddings [b, positions, d] to a prediction [b, c, h, w]."""


@contextmanager
def around_denoiser(pipe: Any, around: Callable[[Call, Tensor, Any, Tensor], Tensor]) -> Iterator[None]:
    """`around(call, sample, t, embeddings)` stands in for `pipe.unet` inside the block; `call` is the UNet itself."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    original = pipe.unet.forward

    @wraps(original, updated=())
    def forward(
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        *args: Any,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        def call(sample: Tensor, t: Any, embeddings: Tensor) -> Tensor:
            return original(sample, t, embeddings, *args, return_dict=False, **kwargs)[0]

        prediction = around(call, sample, timestep, encoder_hidden_states)
        return UNet2DConditionOutput(sample=prediction) if return_dict else (prediction,)

    with replaced(pipe.unet, "forward", forward):
        yield


@contextmanager
def around_encode_prompt(pipe: Any, around: Callable[[Callable[[], Any], BoundArguments], Any]) -> Iterator[None]:
    """`around(call, arguments)` stands in for `pipe.encode_prompt`; it may change `arguments` before it calls."""
    original = pipe.encode_prompt
    parameters = signature(original)

    @wraps(original, updated=())  # its attributes are other wrappers' bookkeeping
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        bound = parameters.bind(*args, **kwargs)
        return around(lambda: original(*bound.args, **bound.kwargs), bound)

    with replaced(pipe, "encode_prompt", encode_prompt):
        yield


class PromptTokens:
    """From which tokens an embedding came: the denoiser is given embeddings only."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, Tensor] = {}  # a hash and a few ids for each prompt; the embeddings are not kept

    def of(self, embedding: Tensor) -> Tensor | None:
        """Token ids [positions] of an embedding [positions, d]; None if it was not encoded by the pipeline."""
        return self._tokens.get(_digest(embedding))

    def add(self, embeddings: Tensor, tokens: Tensor) -> None:
        """embeddings: [n * images per prompt, positions, d]; tokens: [n, positions]."""
        tokens = tokens.repeat_interleave(len(embeddings) // len(tokens), 0)
        self._tokens.update(zip(map(_digest, embeddings), tokens, strict=True))


@contextmanager
def recorded_prompts(pipe: Any) -> Iterator[PromptTokens]:
    """Inside the block, the tokens of all prompts that `pipe` encodes are known by their embeddings."""
    known = PromptTokens()

    def record(call: Callable[[], Any], bound: BoundArguments) -> Any:
        result, prompt = call(), bound.arguments.get("prompt")
        if prompt is not None and bound.arguments.get("prompt_embeds") is None:
            prompts = pipe.maybe_convert_prompt([prompt] if isinstance(prompt, str) else prompt, pipe.tokenizer)
            known.add(result[0], tokenize(pipe, prompts))
        return result

    with around_encode_prompt(pipe, record):
        yield known


def _digest(embedding: Tensor) -> bytes:
    return sha1(embedding.detach().float().cpu().contiguous().numpy().tobytes()).digest()
