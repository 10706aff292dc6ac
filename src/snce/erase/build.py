"""Building an eraser from a trained SAE and the neuron of a concept."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.erase.compose import compose
from snce.erase.edit import Neurons, activations, amounts, prompt_activation
from snce.erase.eraser import ConceptEraser
from snce.neurons.calibrate import operating_point
from snce.text.positions import BEGIN, KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snce.neurons.find import NeuronCard
    from snce.sae.model import SparseAutoencoder
    from snce.text.harvest import Embeddings
    from snce.text.towers import TextTower


STRENGTH = 1.25
"""By default: see docs/one-neuron.md."""


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
        level=torch.zeros(len(i)),
    )


def fitted_directions(neurons: Neurons, target: Embeddings, neutral: Embeddings) -> Tensor:
    """Directions, [n, d], along which the neurons' amounts best tell what only target prompts have.

    The least squares of x - mean(neutral x of the same kind of position) on the amounts, over the target prompts that
    fire; words, end and padding weigh alike. A kind that neutral prompts lack is left out: they have no padding if all
    of them are cut. A neuron among k active ones seldom carries the whole of its concept: its decoder row is what it
    adds beside the others, this is all that comes with it. An edit of strength 1 then leaves, on the average, what
    neutral prompts have. A neuron that never fires at the positions that count keeps its decoder row.
    """
    n, d = neurons.decoder.shape
    gram, moment = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, d, dtype=torch.float64)
    there = {kind: neutral.kinds == kind for kind in KINDS}
    usual = {kind: neutral.x[here].float().mean(0) for kind, here in there.items() if bool(here.any())}
    for x, kinds in zip(target.x.split(256), target.kinds.split(256), strict=True):
        taken = amounts(activations(x.float(), neurons, 0, kinds != BEGIN), neurons)
        for kind, mean in usual.items():
            here = kinds == kind
            a, excess = taken[here].double(), (x[here].float() - mean).double()
            weight = 1 / max(1, int((target.kinds == kind).sum()))
            gram += weight * a.T @ a
            moment += weight * a.T @ excess
    fires_at_all = gram.diagonal() > 0
    fitted = torch.linalg.pinv(gram, hermitian=True) @ moment
    return torch.where(fires_at_all[:, None], fitted.float(), neurons.decoder)


def highest(neurons: Neurons, prompts: Embeddings) -> Tensor:
    """As `prompt_activation`; positions that an edit leaves alone are marked by their kind."""
    batches = zip(prompts.x.split(256), prompts.kinds.split(256), strict=True)
    return torch.cat([prompt_activation(x.float(), neurons, 0, kinds != BEGIN) for x, kinds in batches])


def build_eraser(
    concept: str,
    sae: SparseAutoencoder,
    cards: Sequence[NeuronCard],
    tower: TextTower,
    target: Embeddings,
    neutral: Embeddings,
    strength: float = STRENGTH,
    fitted: bool = True,
    levelled: bool = True,
) -> ConceptEraser:
    """An eraser of `concept` from its chosen neurons; `target` and `neutral` prompts set threshold, level, direction.

    Args:
        strength: of every neuron.
        fitted: take out what comes with the neuron (`fitted_directions`), not its decoder row alone.
        levelled: take a neuron of a prompt code out as if every prompt were as full of it as target prompts at least.

    Use prompts that did not choose the neuron, or the operating point on the card flatters it.
    """
    neurons = neurons_of(sae, [card.neuron for card in cards], strength)
    fired_t, fired_n = (highest(neurons, prompts) for prompts in (target, neutral))
    points = [operating_point(fired_t[:, i], fired_n[:, i]) for i in range(len(cards))]
    neurons = neurons._replace(threshold=torch.tensor([p.threshold for p in points]))
    if levelled:
        above = fired_t > neurons.threshold
        mean = (fired_t * above).sum(0) / above.sum(0).clamp_min(1)
        neurons = neurons._replace(level=torch.where(neurons.whole_prompt, mean, 0.0))
    if fitted:
        neurons = neurons._replace(decoder=fitted_directions(neurons, target, neutral))
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
        tower.begin,
        {concept: entry},
    )
    return compose([eraser])  # in the order that an eraser keeps, also when it is joined with others
