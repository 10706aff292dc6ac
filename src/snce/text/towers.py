"""Text towers: what a pipeline's denoiser reads of a text encoder, with the tokens that feed it."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snce.errors import SnceError
from snce.text.edits import unedited
from snce.text.families import TowerRow, rows_of
from snce.text.fingerprint import weights_fingerprint
from snce.text.positions import END, common_ends, kinds_of_tokens, up_to_end
from snce.text.reading import Reading
from snce.text.tokens import Tokens, tokens_of_pipeline, truncated, warn_truncated
from snce.text.unicode import check_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROBES = ("", "a", "7 zebras")  # they have nothing in common but what the pipeline puts around them
_LONGEST = 1_000_000  # tokens; `transformers` says 10^30 where a tokenizer's files say nothing


class _Weights:
    def __init__(self, encoder: nn.Module) -> None:
        self._encoder = encoder

    @cached_property
    def fingerprint(self) -> str:
        return weights_fingerprint(self._encoder)


class TextTower:
    """A text encoder, read at one place.

    Args:
        encoder: a `transformers` text model.
        tokenizer: its tokenizer.
        path: where its output is read: see `snce.text.reading.Reading`.
        name: attribute under which a pipeline holds the encoder.
        pipeline: class name of that pipeline; empty for a bare encoder.

    Raises:
        SnceError: the encoder has no such place.
    """

    def __init__(
        self, encoder: nn.Module, tokenizer: Any, path: str, name: str = "text_encoder", pipeline: str = ""
    ) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.name = name
        self.pipeline = pipeline
        self.reading = Reading(encoder, path)
        self._weights = _Weights(encoder)
        self._row = TowerRow(name, "tokenizer", path)
        self._pipe: Any = None
        self._options: dict[str, Any] = {}

    @classmethod
    def all_of(cls, pipe: Any, **options: Any) -> tuple[TextTower, ...]:
        """All towers of a diffusers pipeline, in the order of `snce.text.families`; encoders that it lacks are left
        out.

        Args:
            options: of the pipeline's call, that bear on how it encodes prompts: `max_sequence_length=256`.

        Raises:
            SnceError: the class is not in that table, or the pipeline has no text encoder.
        """
        kind, towers = type(pipe).__name__, []
        weights: dict[str, _Weights] = {}  # hashed once, however many towers an encoder has
        for row in rows_of(kind):
            encoder = getattr(pipe, row.encoder, None)
            if encoder is not None:
                tower = cls(encoder, getattr(pipe, row.tokenizer), row.path, row.encoder, kind)
                tower._row, tower._pipe, tower._options = row, pipe, options
                tower._weights = weights.setdefault(row.encoder, tower._weights)
                towers.append(tower)
        if not towers:
            raise SnceError(f"this {kind} has no text encoder: load it with one")
        return tuple(towers)

    @classmethod
    def from_pipeline(cls, pipe: Any, place: str = "", **options: Any) -> TextTower:
        """The tower of a diffusers pipeline.

        Args:
            place: which, where there are several: its `place`, such as "text_encoder_2.output.text_embeds".
            options: see `all_of`.

        Raises:
            SnceError: the pipeline is not known, has several towers and none is named, or has none at `place`.
        """
        towers = cls.all_of(pipe, **options)
        chosen = [tower for tower in towers if place in ("", tower.place)]
        if len(chosen) == 1:
            return chosen[0]
        places = ", ".join(tower.place for tower in towers)
        if place:
            raise SnceError(f"{type(pipe).__name__} has no tower {place!r}; it has {places}")
        raise SnceError(f"{type(pipe).__name__} has several towers: use TextTower.all_of, or choose one of {places}")

    @property
    def path(self) -> str:
        """Where the encoder is read."""
        return self.reading.path

    @property
    def place(self) -> str:
        """Name of the tower in its pipeline."""
        return f"{self.name}.{self.path}"

    @property
    def module(self) -> nn.Module:
        """The module whose output is read."""
        return self.reading.module

    @property
    def pads(self) -> bool:
        """Whether the denoiser reads padding, too, although the encoder is told to ignore it."""
        return self._row.pads

    @cached_property
    def positions(self) -> int:
        """Token positions of a short prompt, padding included. Most pipelines pad all prompts to one length."""
        return self.tokenize([""]).ids.shape[1]

    @property
    def width(self) -> int:
        """d: numbers per token embedding."""
        return self._shape[1]

    @cached_property
    def _shape(self) -> tuple[int, int]:
        _, positions, width = self.encode(["a"]).shape
        return positions, width

    @property
    def fingerprint(self) -> str:
        """Short hash of the encoder's weights, the same for any float dtype that holds them exactly."""
        return self._weights.fingerprint

    @property
    def begin(self) -> int:
        """Tokens that every prompt begins with, and that are left alone: begin-of-text, a template. A tower that has
        one embedding for the whole prompt has none."""
        return 0 if self._pooled else len(self.template[0])

    @cached_property
    def template(self) -> tuple[list[int], list[int]]:
        """Token ids that every prompt begins with, and those that every prompt ends with."""
        return common_ends(self._ids(self.tokenize(_PROBES)))

    def begin_of(self, tokens: Tokens) -> int:
        """How much of the template the first of these prompts begins with: Sana's negative prompts have none."""
        return len(common_ends([self.template[0], self._ids(tokens)[0]])[0])

    @property
    def _pooled(self) -> bool:
        return self._shape[0] == 1 < self.positions

    def tokenize(self, prompts: Sequence[str], warn: bool = True) -> Tokens:
        """What the encoder is handed for these prompts, by the pipeline; a bare encoder gets them padded to its length.

        With `warn`, warns where a prompt is longer than the encoder takes, naming it; not where the pipeline hands over
        a mask: it cuts prompts by rules of its own.

        Raises:
            SnceError: no prompts, or one that is no Unicode text; a bare encoder whose tokenizer knows no length.
        """
        prompts = list(prompts)
        if not prompts:
            raise SnceError("no prompts to encode")
        check_unicode(prompts)
        if self._pipe is not None:
            entry = self.encoder.get_submodule(self._row.entry)
            tokens = tokens_of_pipeline(self._pipe, entry, prompts, self._options)
        else:
            length = int(self.tokenizer.model_max_length)
            if length > _LONGEST:
                raise SnceError(
                    "the tokenizer does not say how long prompts may be: set tokenizer.model_max_length to the number "
                    "of tokens that the pipeline pads them to"
                )
            padded = self.tokenizer(prompts, padding="max_length", truncation=True, max_length=length,
                                    return_tensors="pt")  # fmt: skip
            tokens = Tokens(padded.input_ids)
        if warn and tokens.mask is None:
            found = truncated(prompts, self.tokenizer, tokens.ids.shape[1])
            warn_truncated(found[:3], len(found), tokens.ids.shape[1], stacklevel=3)
        return tokens

    def read(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """The encoder's own embeddings [n, positions, d], and where the denoiser reads them: see `content`."""
        tokens = self.tokenize(prompts)
        return self.encode_tokens(tokens), None if self._pooled else self.content(tokens)

    def encode(self, prompts: Sequence[str], edited: bool = False) -> Tensor:
        """Token embeddings [n, positions, d]: the encoder's own, or with `edited` what the denoiser receives, after
        whatever is attached. [n, 1, d] where the denoiser reads one embedding of the whole prompt."""
        return self.encode_tokens(self.tokenize(prompts), edited)

    @torch.no_grad()
    def encode_tokens(self, tokens: Tokens, edited: bool = False) -> Tensor:
        """The same for tokens."""
        seen: list[Tensor | None] = []
        thread = get_ident()

        def take(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if get_ident() == thread:  # others may draw with the same encoder meanwhile
                seen.append(self.reading.take(output))

        handle = self.module.register_forward_hook(take)
        device = self._device
        call = getattr(self.encoder, self._row.call) if self._row.call else self.encoder
        options: dict[str, Any] = {"output_hidden_states": True} if self.reading.of_layers else {}
        if tokens.mask is not None:
            options["attention_mask"] = tokens.mask.long().to(device)
        try:
            with nullcontext() if edited else unedited():
                call(tokens.ids.to(device), **options)
        finally:
            handle.remove()
        if not seen or seen[-1] is None:
            if self.reading.is_field:
                raise SnceError(
                    f"what {type(self.encoder).__name__} returns has no {self.path.removeprefix('output.')}"
                )
            raise SnceError(f"module {self.path!r} of {type(self.encoder).__name__} did not run in a forward pass")
        return seen[-1]

    @property
    def _device(self) -> torch.device:
        """Where the encoder takes its tokens from."""
        device = next(self.encoder.parameters()).device
        # accelerate keeps the weights elsewhere, and moves the tokens to where it brings them; from meta it could not
        return torch.device("cpu") if device.type == "meta" else device

    def kinds(self, tokens: Tokens) -> Tensor:
        """What stands at each position, uint8 [n, positions]: see `snce.text.positions`."""
        begin, end = map(len, self.template)
        if self._pooled:
            return torch.full((len(tokens.ids), 1), END, dtype=torch.uint8)
        return kinds_of_tokens(self._prompt(tokens), begin, end, tokens.mask is None or self.pads)

    def content(self, tokens: Tokens) -> Tensor | None:
        """Positions that the denoiser reads, bool [n, positions]; None if it reads all."""
        return None if self.pads else tokens.mask

    def _ids(self, tokens: Tokens) -> list[list[int]]:
        """Without padding."""
        return [ids[kept].tolist() for ids, kept in zip(tokens.ids, self._prompt(tokens), strict=True)]

    def _prompt(self, tokens: Tokens) -> Tensor:
        """Positions that are no padding, bool [n, positions]."""
        return up_to_end(tokens.ids, self.tokenizer.eos_token_id) if tokens.mask is None else tokens.mask


def tower_at(place: str, towers: Sequence[TextTower]) -> TextTower:
    """The tower that an eraser or an SAE for `place` is for: the one there, or the only one, since the same encoder may
    have another name in another pipeline. Whether it is the same is for the caller to check.

    Raises:
        SnceError: there are several, and none at this place.
    """
    for tower in towers:
        if tower.place == place or len(towers) == 1:
            return tower
    raise SnceError(f"this eraser or SAE is for {place}; the pipeline has {', '.join(t.place for t in towers)}")
