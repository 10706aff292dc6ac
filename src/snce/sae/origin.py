"""What an SAE was trained on, and how: it goes with the SAE, and is checked before use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from snce.errors import SnceError

if TYPE_CHECKING:
    from snce.text.towers import TextTower


@dataclass(frozen=True, eq=False)
class SAEOrigin:
    """What an SAE was trained on, and how."""

    fingerprint: str
    """Of the text encoder's weights."""
    tower: str = "text_encoder"
    """Attribute under which the pipeline holds that encoder."""
    module: str = "final_layer_norm"
    """Module of the encoder whose output the SAE reads."""
    pipeline: str = ""
    """Class of the pipeline; empty for a bare encoder."""
    training: dict[str, Any] = field(default_factory=dict)
    """Options and data of the training."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Quality on held-out prompts: fvu, l0, dead, and whatever else was measured."""

    def check(self, tower: TextTower) -> None:
        """Raise SnceError if `tower` holds another text encoder than the SAE was trained on."""
        if tower.fingerprint != self.fingerprint or tower.path != self.module:
            raise SnceError(
                f"this SAE was trained on {self.tower}.{self.module} of {self.pipeline or 'a bare encoder'} with "
                f"fingerprint {self.fingerprint}; the model given has {tower.name}.{tower.path} with "
                f"{tower.fingerprint}: train one for it with `snce train`"
            )
