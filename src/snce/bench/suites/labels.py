"""The classes of Imagenette and UnlearnCanvas, and concepts made of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from snce.text.prompts import Concept

if TYPE_CHECKING:
    from collections.abc import Iterable

IMAGENETTE = ("tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck",
              "gas pump", "golf ball", "parachute")  # fmt: skip
"""The ten classes of Imagenette (Jeremy Howard, fast.ai), named as ImageNet names them."""

UNLEARNCANVAS_STYLES = (
    "Abstractionism", "Artist Sketch", "Blossom Season", "Bricks", "Byzantine", "Cartoon", "Cold Warm",
    "Color Fantasy", "Comic Etch", "Crayon", "Cubism", "Dadaism", "Dapple", "Defoliation", "Early Autumn",
    "Expressionism", "Fauvism", "French", "Glowing Sunset", "Gorgeous Love", "Greenfield", "Impressionism", "Ink Art",
    "Joy", "Liquid Dreams", "Magic Cube", "Meta Physics", "Meteor Shower", "Monet", "Mosaic", "Neon Lines", "On Fire",
    "Pastel", "Pencil Drawing", "Picasso", "Pop Art", "Red Blue Ink", "Rust", "Sketch", "Sponge Dabbed",
    "Structuralism", "Superstring", "Surrealism", "Ukiyoe", "Van Gogh", "Vibrant Flow", "Warm Love", "Warm Smear",
    "Watercolor", "Winter",
)  # fmt: skip
"""The 50 styles of the unlearning benchmark of UnlearnCanvas (Zhang et al., arXiv 2402.11846), as its repository
OPTML-Group/UnlearnCanvas lists them; without its photographs ("Seed Images"), which are no style."""

UNLEARNCANVAS_OBJECTS = ("Architectures", "Bears", "Birds", "Butterfly", "Cats", "Dogs", "Fishes", "Flame", "Flowers",
                         "Frogs", "Horses", "Human", "Jellyfish", "Rabbits", "Sandwiches", "Sea", "Statues", "Towers",
                         "Trees", "Waterfalls")  # fmt: skip
"""Its 20 objects."""

UNLEARNCANVAS_SEEDS = (188, 288, 588, 688, 888)
"""The seeds of its evaluation."""

_SCENES = ("an image of {}", "a picture of {}", "{}", "a drawing of {}", "a painting of {}", "a close-up of {}",
           "{} in the distance", "{} on a sunny day", "a good photo of {}", "an old photograph of {}",
           "{}, highly detailed", "we saw {} today")  # fmt: skip
"""What made concepts are worded in: not as the prompts that judge them are."""
_STYLED = ("{object}, {style} style", "a picture of {object} in the style of {style}")
_NEUTRALS = 400
"""At most, in a made concept."""


@dataclass(frozen=True)
class Labels:
    """The classes that a suite tells apart; empty where it has none of the kind."""

    objects: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()

    def named(self, name: str) -> str | None:
        """The class called `name`, in its own spelling; None if there is none."""
        return match(name, (*self.objects, *self.styles))


def match(name: str, classes: Iterable[str]) -> str | None:
    """The one of `classes` that is `name` but for case and underscores."""
    wanted = _plain(name)
    return next((c for c in classes if _plain(c) == wanted), None)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def photo_of(name: str) -> str:
    """The prompt that judges an object of Imagenette."""
    return f"a photo of {with_article(name)}"


def styled(object_: str, style: str) -> str:
    """The prompt of UnlearnCanvas."""
    return f"A {object_} image in {style} style."


def with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def made_concept(name: str, labels: Labels) -> Concept:
    """Prompts with and without a class of `labels`, so that it can be erased without a concept file."""
    if labels.styles:
        pairs = [(o, s) for s in labels.styles for o in labels.objects]
        targets = [t.format(object=o, style=s) for o, s in pairs if name in (o, s) for t in _STYLED]
        others = [t.format(object=o, style=s) for o, s in pairs if name not in (o, s) for t in _STYLED]
    else:
        targets = [scene.format(with_article(name)) for scene in _SCENES]
        others = [s.format(with_article(o)) for o in labels.objects if o != name for s in _SCENES]
    if len(others) > _NEUTRALS:
        others = Random(f"neutral prompts of {name}").sample(others, _NEUTRALS)
    return Concept(name, tuple(targets), tuple(others))
