"""Building an eraser from a trained SAE and the neuron of a concept."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from snce.erase import DEFAULT_STRENGTH
from snce.erase.edit import Neurons, prompt_activation
from snce.erase.eraser import ConceptEraser, compose
from snce.neurons.calibrate import operating_point
from snce.text.positions import BEGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.neurons.find import NeuronCard
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings
    from snce.text.towers import TextTower


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


def build_eraser(
    concept: str,
    sae: SparseAutoencoder,
    cards: Sequence[NeuronCard],
    tower: TextTower,
    target: Embeddings,
    neutral: Embeddings,
    strength: float = DEFAULT_STRENGTH,
) -> ConceptEraser:
    """An eraser of `concept` from its chosen neurons, with the threshold set on `target` and `neutral` prompts.

    Use prompts that did not choose the neuron, or the operating point on the card flatters it.
    """
    neurons = neurons_of(sae, [card.neuron for card in cards], strength)
    begin = int((target.kinds[:, 0] == BEGIN).all())
    fired_t = torch.cat([prompt_activation(x.float(), neurons, begin) for x in target.x.split(256)])
    fired_n = torch.cat([prompt_activation(x.float(), neurons, begin) for x in neutral.x.split(256)])
    points = [operating_point(fired_t[:, i], fired_n[:, i]) for i in range(len(cards))]
    neurons = neurons._replace(threshold=torch.tensor([p.threshold for p in points]))
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
