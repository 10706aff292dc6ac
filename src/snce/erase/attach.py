"""Putting erasers on a pipeline's text encoders, and taking them off without a trace."""

from __future__ import annotations

import threading
import warnings
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from snce.erase.compose import compose
from snce.erase.watch import check_guard, watch_prompts
from snce.errors import SnceError
from snce.text.edits import edits_are_off
from snce.text.tokens import tokens_in
from snce.text.towers import TextTower, tower_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from snce.erase.eraser import ConceptEraser


class Station:
    """What is attached to one tower: all its erasers act as one hook, so that each reads the unedited embedding."""

    def __init__(self, tower: TextTower) -> None:
        self.tower = tower
        self.entries: dict[int, tuple[ConceptEraser, bool]] = {}
        self.everything: ConceptEraser | None = None  # before the hook: other threads may be drawing
        self.on_negative: ConceptEraser | None = None
        self.state = threading.local()
        if tower.reading.is_field:
            tower.template  # noqa: B018 - asks the pipeline, which must not be asked from within a hook
        # a later hook of someone else must see the edited output, and hidden_states are captured by hooks too
        self.handle = tower.module.register_forward_hook(self._hook, prepend=True, with_kwargs=True)

    def add(self, eraser: ConceptEraser, edit_negative: bool) -> int:
        # erasers are joined by the name of their tower, and this one may have another name in another pipeline
        eraser = replace(eraser, tower=self.tower.name, module=self.tower.path)
        token = max(self.entries, default=-1) + 1
        self._compile(self.entries | {token: (eraser, edit_negative)})
        return token

    def remove(self, token: int) -> None:
        self._compile({key: entry for key, entry in self.entries.items() if key != token})

    def _compile(self, entries: dict[int, tuple[ConceptEraser, bool]]) -> None:
        """Nothing changes if the erasers cannot be joined."""
        everything = [eraser for eraser, _ in entries.values()]
        negative = [eraser for eraser, edit_negative in entries.values() if edit_negative]
        self.everything = compose(everything) if everything else None
        self.on_negative = compose(negative) if negative else None
        self.entries = entries

    def expect(self, positive_calls: int | None) -> None:
        """So many of the coming calls in this thread are for prompts, those after them for negative prompts. None:
        nothing is known, and every call is for a prompt."""
        self.state.positive_calls = positive_calls
        self.state.called = False

    def was_missed(self) -> bool:
        """Whether the tower's module has not run in this thread since `expect`, or was not seen to."""
        return not self.state.called and bool(self.entries)  # none: it was detached meanwhile

    def was_called_too_often(self) -> bool:
        """Whether more than one call was taken for one with negative prompts: it may have been for prompts."""
        calls = self.state.positive_calls
        return calls is not None and calls < -1 and not all(negative for _, negative in self.entries.values())

    def _hook(self, _module: nn.Module, args: tuple, *rest: Any) -> Any:
        """rest: the keyword arguments and the output.

        PyTorch lists the hooks of a call, and asks later which of them want keyword arguments: one that another thread
        takes off in between, or has not quite put on, is given the output alone, and must do nothing.
        """
        self.state.called = True
        if len(rest) < 2 or edits_are_off():
            return None
        kwargs, output = rest
        reading = self.tower.reading
        x = reading.take(output)
        if x is None:
            return None
        calls = getattr(self.state, "positive_calls", None)
        eraser = self.everything
        if calls is not None:
            eraser = self.everything if calls > 0 else self.on_negative
            self.state.positive_calls = calls - 1
        if eraser is None:
            return None
        if not reading.is_field or x.shape[1] == 1:  # a module inside the encoder is not told what is padding
            return reading.put(output, eraser.edit(x))
        tokens = tokens_in(args, kwargs)
        edited = eraser.edit(x, mask=self.tower.content(tokens), begin=min(eraser.begin, self.tower.begin_of(tokens)))
        return reading.put(output, edited)

    def __reduce__(self) -> NoReturn:
        """For copy and pickle, which come here from the hook on the module."""
        raise SnceError(
            f"a copy of {self.tower.place} would lose the eraser that is attached to it: detach it first, and attach "
            "it to the copy, too"
        )


# by the identity of the module and the path in it. What keeps a station is its hook: it goes with the module
_stations: weakref.WeakValueDictionary[tuple[int, str], Station] = weakref.WeakValueDictionary()
_lock = threading.RLock()


class Attachment:
    """An attached eraser. `detach()`, or leaving the `with` block, restores the pipeline exactly."""

    def __init__(self, eraser: ConceptEraser, places: list[tuple[Station, int]], undo: Callable[[], None]) -> None:
        self.eraser = eraser
        self._places = places
        self._undo = undo

    def detach(self) -> None:
        """Take the eraser off; harmless when done twice."""
        with _lock:
            if not self._places:
                return
            _leave(self._places)
            self._places = []
            self._undo()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.detach()


def attach(eraser: ConceptEraser, target: Any, *, edit_negative: bool, allow_mismatch: bool, guard: bool) -> Attachment:
    """See `ConceptEraser.attach`."""
    bare = isinstance(target, TextTower)
    towers = (target,) if bare else TextTower.all_of(target)
    if guard:
        check_guard(target)
    pairs = [(part, tower_at(part.place, towers)) for part in eraser.parts]
    if not allow_mismatch:
        for part, tower in pairs:
            part.check(tower)
    with _lock:
        edited = {_key(tower) for _, tower in pairs} | set(_stations)
    untouched = [tower.place for tower in towers if _key(tower) not in edited]
    if untouched:
        warnings.warn(
            f"no eraser for {', '.join(untouched)}: what it tells the denoiser is left as it is", stacklevel=3
        )
    places: list[tuple[Station, int]] = []
    with _lock:
        try:
            for part, tower in pairs:
                station = _station(tower)
                try:
                    places.append((station, station.add(part, edit_negative)))
                finally:
                    _drop_if_empty(station)
            undo = _nothing if bare else watch_prompts(target, [station for station, _ in places], guard)
        except BaseException:
            _leave(places)
            raise
    return Attachment(eraser, places, undo)


def _nothing() -> None:
    return None


def _key(tower: TextTower) -> tuple[int, str]:
    return id(tower.module), tower.path


def _station(tower: TextTower) -> Station:
    station = _stations.get(_key(tower))
    if station is None:
        station = _stations[_key(tower)] = Station(tower)
    return station


def _drop_if_empty(station: Station) -> None:
    if not station.entries:
        station.handle.remove()
        del _stations[_key(station.tower)]


def _leave(places: list[tuple[Station, int]]) -> None:
    for station, token in places:
        station.remove(token)
        _drop_if_empty(station)
