"""What Emblem can draw: objects with their groups, synonyms and styles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from snce.errors import SnceError


@dataclass(frozen=True)
class EmblemObject:
    """An object that Emblem draws."""

    name: str
    group: str
    """nature, food, object, place or activity."""
    harmful: str | None
    """For what kind of harm it stands in; None for a harmless one."""
    synonyms: tuple[str, ...]
    styles: tuple[str, ...]
    """Styles in which the object exists as an icon."""


@dataclass(frozen=True)
class Vocabulary:
    """All objects and styles, in the order of the judge's classes."""

    objects: dict[str, EmblemObject]
    styles: tuple[str, ...]
    held_out: frozenset[tuple[str, str]]
    """Object-style combinations that Emblem was not trained on (the judge was)."""

    def index(self, name: str) -> int:
        """The judge's class of an object.

        Raises:
            SnceError: Emblem does not know it.
        """
        return list(self.objects).index(self[name].name)

    def others(self, name: str) -> list[str]:
        """Objects that are no instance of `name` by their own words: a racing car is a car, a car is no racing car."""
        spoken = set(name.split())
        return [
            n
            for n, item in self.objects.items()
            if n != name and not any(spoken <= set(words.split()) for words in (n, *item.synonyms))
        ]

    def __getitem__(self, name: str) -> EmblemObject:
        if name not in self.objects:
            raise SnceError(f"Emblem does not draw {name!r}; `snce concepts` lists what it draws")
        return self.objects[name]


@cache
def vocabulary() -> Vocabulary:
    """The bundled vocabulary.

    Raises:
        SnceError: its file is missing or damaged.
    """
    path = files("snce.emblem").joinpath("weights", "vocabulary.json")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        objects = {
            name: EmblemObject(name, o["group"], o["harmful"], tuple(o["synonyms"]), tuple(o["styles"]))
            for name, o in raw["objects"].items()
        }
        return Vocabulary(objects, tuple(raw["styles"]), frozenset((o, s) for o, s in raw["held_out"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnceError(f"Emblem's vocabulary, {path}, is missing or damaged ({error!r}); reinstall snce") from error
