"""Building an eraser from a trained SAE and the neuron of a concept."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.erase.edit import Neurons, activations, fires, prompt_activation
from snce.erase.eraser import ConceptEraser, compose
from snce.neurons.calibrate import operating_point
from snce.text.positions import BEGIN, KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.neurons.find import NeuronCard
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings
    from snce.text.towers import TextTower


OVERSHOOT = 1.5
"""Times the neutralising strength, by default: see docs/one-neuron.md."""


def neurons_of(sae: SparseAutoencoder, indices: Sequence[int], strength: float) -> Neurons:
    """Rows of the SAE as stand-alone neurons: centring and scale folded in, so that u and u * d are as in the SAE."""
    i = torch.as_tensor(indices)
    encoder = sae.W_enc[i] / sae.scale
    return Neurons(
        encoder=encoder.detach().clone(),
        bias=(sae.b_enc[i] - encoder @ sae.b_dec).detach().clone(),
        threshold=sae.threshold[i].clone(),
        decoder=(sae.W_dec[i] * sae.scale).detach().clone(),
        strength=torch.full((len(i),), float(strength)),
        whole_prompt=torch.full((len(i),), sae.config.support == "prompt"),
    )


def neutralising_strength(neurons: Neurons, target: Embeddings, neutral: Embeddings, begin: int) -> Tensor:
    """The strengths, [n], with which edited target prompts write along each decoder row what neutral prompts write.

    Nothing of the concept is left on that line then, and not less than nothing. A neuron among k active ones seldom
    carries the whole of its concept, so this is more than 1; never less.
    """
    direction = neurons.decoder / neurons.decoder.square().sum(1, keepdim=True)
    excess, amount = torch.zeros(len(direction)), torch.zeros(len(direction))
    written = {kind: (neutral.x[neutral.kinds == kind].float() @ direction.T).mean(0) for kind in KINDS}
    for x, kinds in zip(target.x.split(256), target.kinds.split(256), strict=True):
        x = x.float()
        u = activations(x, neurons, begin)
        fired = fires(u, neurons)
        amount += (u * fired).sum((0, 1))
        for kind in KINDS:
            here = (kinds == kind)[..., None] & fired
            excess += torch.where(here, x @ direction.T - written[kind], 0.0).sum((0, 1))
    return torch.where(amount > 0, excess / amount.clamp_min(1e-12), 1.0).nan_to_num(1.0).clamp_min(1.0)


def build_eraser(
    concept: str,
    sae: SparseAutoencoder,
    cards: Sequence[NeuronCard],
    tower: TextTower,
    target: Embeddings,
    neutral: Embeddings,
    strength: float | None = None,
    overshoot: float = OVERSHOOT,
) -> ConceptEraser:
    """An eraser of `concept` from its chosen neurons, with the threshold set on `target` and `neutral` prompts.

    Args:
        strength: of every neuron; None for the one that neutralises its concept on `target`, times `overshoot`.

    Use prompts that did not choose the neuron, or the operating point on the card flatters it.
    """
    neurons = neurons_of(sae, [card.neuron for card in cards], 1.0)
    begin = int((target.kinds[:, 0] == BEGIN).all())
    fired_t = torch.cat([prompt_activation(x.float(), neurons, begin) for x in target.x.split(256)])
    fired_n = torch.cat([prompt_activation(x.float(), neurons, begin) for x in neutral.x.split(256)])
    points = [operating_point(fired_t[:, i], fired_n[:, i]) for i in range(len(cards))]
    neurons = neurons._replace(threshold=torch.tensor([p.threshold for p in points]))
    strengths = overshoot * neutralising_strength(neurons, target, neutral, begin)
    neurons = neurons._replace(strength=strengths if strength is None else torch.full_like(strengths, strength))
    entry = {
        "neurons": [{**asdict(card), **point._asdict()} for card, point in zip(cards, points, strict=True)],
        "sae": sae.describe(),
        "target_prompts": len(target),
        "neutral_prompts": len(neutral),
    }
    eraser = ConceptEraser(
        neurons,
        (concept,) * len(cards),
        tower.fingerprint,
        tower.name,
        tower.path,
        tower.pipeline,
        begin,
        {concept: entry},
    )
    return compose([eraser])  # in the order that an eraser keeps, also when it is joined with others
