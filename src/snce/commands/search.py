"""The search of `snce find`: one model and its SAEs, for one concept after the other."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from snce.commands.console import open_pipeline
from snce.errors import SnceError

if TYPE_CHECKING:
    from snce.commands.find_options import FindOptions
    from snce.erase.eraser import ConceptEraser
    from snce.neurons.find import NeuronCard
    from snce.neurons.plot import ChosenNeuron
    from snce.neurons.stats import ActivationStats
    from snce.sae.model import SparseAutoencoder
    from snce.sae.origin import SAEOrigin
    from snce.text.harvest import Embeddings
    from snce.text.prompts import Concept
    from snce.text.towers import TextTower


class Found(NamedTuple):
    """In one tower."""

    eraser: "ConceptEraser"
    cards: "list[NeuronCard]"
    evidence: "list[ChosenNeuron]"


class Neutral(NamedTuple):
    """Neutral prompts as one tower reads them: many concepts may share a list of them."""

    prompts: tuple[str, ...]
    ranking: "ActivationStats"
    """Of the half that ranks the neurons."""
    held_back: "Embeddings"
    """The half that sets the threshold."""


class Search:
    """A model and its SAEs, loaded once.

    Raises:
        SnceError: an SAE of another text encoder, or none; fewer neurons in it than are asked for.
    """

    def __init__(self, options: "FindOptions") -> None:
        from snce.commands.corpus import call_options
        from snce.text.towers import TextTower, tower_at

        self.options = options
        self.saes = read_saes(options)
        lengths = {origin.training.get("max_sequence_length") for _, origin in self.saes.values()}
        if len(lengths) > 1:
            raise SnceError(
                f"the SAEs in {options.sae} were trained with different --max-sequence-length; train them anew"
            )
        pipe = open_pipeline(options.model, options.device)
        self.towers = TextTower.all_of(pipe, **call_options(lengths.pop()))
        self.chosen = {place: tower_at(place, self.towers) for place in self.saes}
        for place, (_, origin) in self.saes.items():
            origin.check(self.chosen[place])
        self._neutral: dict[str, Neutral] = {}

    @property
    def unread(self) -> "list[str]":
        """Places of the towers that no SAE is for."""
        read = {tower.place for tower in self.chosen.values()}
        return [tower.place for tower in self.towers if tower.place not in read]

    def find(self, concept: "Concept") -> dict[str, Found]:
        """The neurons of a concept and its eraser, by the place of the tower.

        Raises:
            SnceError: no neuron fires on its prompts.
        """
        return {tower.place: self._find_in(place, tower, concept) for place, tower in self.chosen.items()}

    def _find_in(self, place: str, tower: "TextTower", concept: "Concept") -> Found:
        from snce.erase.build import build_eraser, highest
        from snce.hub.names import hub_model
        from snce.neurons.find import rank
        from snce.neurons.plot import ChosenNeuron
        from snce.neurons.stats import collect
        from snce.text.harvest import harvest

        options, (sae, origin) = self.options, self.saes[place]
        ranking, held_back = harvest(tower, concept.targets).halves()
        neutral = self._neutral_in(place, tower, concept.neutrals)
        cards = rank(collect(sae, ranking), neutral.ranking, options.rule, max(options.top, options.neurons))
        chosen = cards[: options.neurons]
        eraser = build_eraser(concept.name, sae, chosen, tower, held_back, neutral.held_back, options.strength)
        eraser = with_origin(eraser, origin, hub_model(options.model))
        fired_t, fired_n = (highest(eraser.neurons, prompts) for prompts in (held_back, neutral.held_back))
        evidence = [
            ChosenNeuron(entry["neuron"], entry["threshold"], fired_t[:, i], fired_n[:, i])
            for i, entry in enumerate(eraser.card[concept.name]["neurons"])
        ]
        return Found(eraser, cards, evidence)

    def _neutral_in(self, place: str, tower: "TextTower", prompts: tuple[str, ...]) -> Neutral:
        """Read anew only where the list is another than that of the last concept."""
        from snce.neurons.stats import collect
        from snce.text.harvest import harvest

        last = self._neutral.pop(place, None)
        if last is None or last.prompts != prompts:
            del last  # before the next ones take memory
            ranking, held_back = harvest(tower, prompts).halves()
            last = Neutral(prompts, collect(self.saes[place][0], ranking), held_back)
        self._neutral[place] = last
        return last


def read_saes(options: "FindOptions") -> "dict[str, tuple[SparseAutoencoder, SAEOrigin]]":
    """The SAEs, by the place of their tower.

    Raises:
        SnceError: there is none, one with fewer neurons than are asked for, or several for one tower.
    """
    from snce.commands.hub_files import local_file
    from snce.sae.formats import load_sae, saes_in
    from snce.sae.model import SparseAutoencoder

    saes, paths = {}, {}
    for path in saes_in(local_file(options.sae, SparseAutoencoder.hub_file)):
        sae, origin = load_sae(path)
        if options.neurons > sae.config.latents:
            raise SnceError(f"--neurons {options.neurons} must not pass the SAE's {sae.config.latents}")
        place = f"{origin.tower}.{origin.module}"
        if place in saes:
            both = f"{paths[place].parent} and {path.parent}"
            raise SnceError(f"there are several SAEs for {place} in {options.sae}: give --sae one of {both}")
        saes[place], paths[place] = (sae, origin), path
    return saes


def with_origin(eraser: "ConceptEraser", origin: "SAEOrigin", base_model: str | None) -> "ConceptEraser":
    """The eraser with the SAE's training and metrics on its card, and the model's name on the hub if it has one."""
    trained: dict[str, Any] = {"sae_training": origin.training, "sae_metrics": origin.metrics}
    if base_model is not None:
        trained["base_model"] = base_model
    return replace(eraser, card={concept: {**entry, **trained} for concept, entry in eraser.card.items()})
