"""ConceptEraser: the frozen data of switched-off neurons. Save, load, compose, edit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snce.erase.attach import Attachment, attach
from snce.erase.card import describe_for_hub
from snce.erase.compose import compose
from snce.erase.edit import Neurons, edit, prompt_activation
from snce.erase.files import read_eraser, write_eraser
from snce.errors import SnceError
from snce.hub.mixin import HubMixin
from snce.storage import is_finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.text.towers import TextTower


@dataclass(frozen=True, eq=False)
class ConceptEraser(HubMixin, file="eraser.safetensors"):
    """One or more neurons to be switched off in what a denoiser reads of a text encoder.

    `eraser_a | eraser_b` switches off both. `eraser.attach(pipe)` puts it on a pipeline, also as a context manager.

    Where a pipeline has several towers (Stable Diffusion XL reads two encoders, and of one of them a pooled embedding,
    too), an eraser has a part for each: this object is the first of them, and has the others.
    """

    neurons: Neurons
    concepts: tuple[str, ...]
    """The concept of each neuron."""
    fingerprint: str
    """Of the text encoder that it was made for."""
    tower: str = "text_encoder"
    """Attribute under which the pipeline holds that encoder."""
    module: str = "final_layer_norm"
    """Where the encoder's output is edited: see `snce.text.reading.Reading`."""
    pipeline: str = ""
    """Class of the pipeline that it was made on."""
    begin: int = 1
    """Leading positions that are left alone: 1 for begin-of-text, 0 for an encoder that starts with a word, the length
    of the template where a pipeline puts prompts into one."""
    card: dict[str, Any] = field(default_factory=dict)
    """How the neurons were found and what was measured, by concept: card[concept]["neurons"] has an entry for each
    neuron of the concept, in their order here."""
    others: tuple[ConceptEraser, ...] = ()
    """For other towers of the same pipeline."""

    def __post_init__(self) -> None:
        n, d = self.neurons.encoder.shape
        if n == 0 or d == 0:
            raise SnceError(f"an eraser needs a neuron at least: its encoder is {[n, d]}")
        for name, tensor in self.neurons._asdict().items():
            found, shape = tuple(tensor.shape), (n, d) if name in ("encoder", "decoder") else (n,)
            if found != shape:
                raise SnceError(f"eraser tensor {name!r} has shape {found} where {shape} was expected")
        if not 0 <= self.begin < 2**31:
            raise SnceError(f"begin = {self.begin} must be 0 or more, and no more than a prompt has tokens")
        if len({part.place for part in self.parts}) <= len(self.others) or any(part.others for part in self.others):
            raise SnceError("the parts of an eraser must be for different towers")
        if len(self.concepts) != n:
            raise SnceError(f"{n} neurons but {len(self.concepts)} concept names")
        for name, tensor in self.neurons._asdict().items():
            if not is_finite(tensor):
                raise SnceError(f"eraser tensor {name!r} holds NaN or infinity")
        if bool((self.neurons.strength < 0).any()):
            raise SnceError("an eraser cannot have a negative strength: it would bring the concept out")

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(self.concepts))
        towers = f"; {len(self.parts)} towers" if self.others else ""
        return f"ConceptEraser({names}; {self.nbytes} bytes{towers}; for {self.pipeline or 'a bare encoder'})"

    @property
    def place(self) -> str:
        """Name of the tower in its pipeline, as `TextTower.place`."""
        return f"{self.tower}.{self.module}"

    @property
    def parts(self) -> tuple[ConceptEraser, ...]:
        """An eraser for each tower."""
        return (replace(self, others=()), *self.others) if self.others else (self,)

    @property
    def width(self) -> int:
        return self.neurons.encoder.shape[-1]

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(t.numel() * t.element_size() for part in self.parts for t in part.neurons)

    # -- use ---------------------------------------------------------------------------------------------------------

    def edit(self, embeddings: Tensor, *, mask: Tensor | None = None, begin: int | None = None) -> Tensor:
        """Token embeddings [b, positions, d] (prompt_embeds) with the neurons switched off, in the same dtype.

        Prompts on which every neuron is silent come back bit for bit.

        Args:
            mask: bool [b, positions], True where the denoiser reads them; None if it reads all.
            begin: instead of the eraser's own, where the pipeline has cut off a template already: 0.

        Raises:
            SnceError: another width than the eraser's, or it has several parts: edit with the one of that tower.
        """
        self._check_width(embeddings)
        return edit(embeddings, self.on(embeddings.device), self.begin if begin is None else begin, mask)

    def activations(
        self, prompts: Sequence[str] | Tensor, tower: TextTower | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Highest activation of each neuron in each prompt, [prompts, n]; it fires where this passes `threshold`.

        Args:
            prompts: texts, with the tower that encodes them; or embeddings [b, positions, d].
            mask: of embeddings: see `edit`.
        """
        if isinstance(prompts, Tensor):
            embeddings = prompts
        elif tower is None:
            raise SnceError("to read the activations of texts, pass the tower that encodes them")
        else:
            self.check(tower)
            embeddings, mask = tower.read(prompts)
        self._check_width(embeddings)
        return prompt_activation(embeddings, self.on(embeddings.device), self.begin, mask)

    def attach(
        self, target: Any, *, edit_negative: bool = False, allow_mismatch: bool = False, guard: bool = False
    ) -> Attachment:
        """Put it on a pipeline (or a `TextTower`); undo with `.detach()` or by leaving the `with` block.

        Warns of towers of the pipeline that no eraser is on.

        Args:
            edit_negative: also edit negative prompts. Off by default: "negative: nudity" is meant to keep nudity out.
            allow_mismatch: use it on a text encoder that it was not made for.
            guard: refuse calls of the pipeline that bring prompt embeddings of their own, which no edit would see.

        Raises:
            SnceError: the text encoder is another than the eraser's, the pipeline lacks one of its towers, or `guard`
                cannot see what this pipeline is given.
        """
        return attach(self, target, edit_negative=edit_negative, allow_mismatch=allow_mismatch, guard=guard)

    def check(self, tower: TextTower) -> None:
        """Raise SnceError if the eraser was made for another text encoder, or another module of it."""
        if (tower.fingerprint, tower.path) != (self.fingerprint, self.module):
            raise SnceError(
                f"ConceptEraser {', '.join(map(repr, self.concepts))} was made for a text encoder with fingerprint "
                f"{self.fingerprint} ({self.pipeline or 'a bare encoder'}), read at {self.module}; this one has "
                f"{tower.fingerprint}, read at {tower.path}; pass allow_mismatch=True to use it anyway"
            )

    # -- make --------------------------------------------------------------------------------------------------------

    def __or__(self, other: ConceptEraser) -> ConceptEraser:
        """Both erasers in one. Order cannot matter: neurons are kept sorted.

        A neuron that both hold for the same concept counts once, with the larger strength and level and the lower
        threshold of the two: together they never do less than either alone.
        """
        return compose([self, other])

    def with_strength(self, strength: float) -> ConceptEraser:
        """The same neurons with another strength."""
        neurons = self.neurons._replace(strength=torch.full_like(self.neurons.strength, strength))
        return replace(self, neurons=neurons, others=tuple(other.with_strength(strength) for other in self.others))

    def on(self, device: torch.device | str) -> Neurons:
        """The neurons' tensors on a device."""
        return Neurons(*(t.to(device) for t in self.neurons))

    # -- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        write_eraser(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> ConceptEraser:
        """Read what `save` wrote.

        Raises:
            SnceError: no such file, a truncated or foreign one, or one whose contents do not fit together.
        """
        return read_eraser(Path(path), cls)

    def _write_hub_file(self, path: Path) -> None:
        self.save(path)

    @classmethod
    def _read_hub_file(cls, path: Path) -> ConceptEraser:
        return cls.load(path)

    def _describe_for_hub(self, filename: str, repo_id: str | None) -> tuple[str, dict[str, Any]]:
        return describe_for_hub(self, filename, repo_id)

    def _check_width(self, embeddings: Tensor) -> None:
        if self.others:
            places = ", ".join(part.place for part in self.parts)
            raise SnceError(f"this eraser has parts for {places}: use the one in .parts that is for these embeddings")
        if embeddings.ndim != 3 or embeddings.shape[-1] != self.width:
            raise SnceError(f"this eraser edits embeddings [b, positions, {self.width}], not {list(embeddings.shape)}")
