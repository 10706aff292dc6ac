"""Putting erasers on a pipeline's text encoder, and taking them off without a trace."""

from __future__ import annotations

import threading
import weakref
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from snce.erase.eraser import compose
from snce.text.edits import edits_are_off
from snce.text.towers import TextTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from snce.erase.eraser import ConceptEraser


class _Station:
    """What is attached to one module: all its erasers act as one hook, so that each reads the unedited embedding."""

    def __init__(self, module: nn.Module) -> None:
        self.entries: dict[int, tuple[ConceptEraser, bool]] = {}
        self.state = threading.local()
        # a later hook of someone else must see the edited output, and hidden_states are captured by hooks too
        self.handle = module.register_forward_hook(self._hook, prepend=True)

    def add(self, eraser: ConceptEraser, edit_negative: bool) -> int:
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

    def _hook(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        if edits_are_off():
            return None
        calls = getattr(self.state, "positive_calls", None)  # None: not inside encode_prompt
        eraser = self.everything
        if calls is not None:
            eraser = self.everything if calls > 0 else self.on_negative
            self.state.positive_calls = calls - 1
        if eraser is None:
            return None
        if isinstance(output, tuple):
            return (eraser.edit(output[0]), *output[1:])
        return eraser.edit(output)


_stations: weakref.WeakKeyDictionary[nn.Module, _Station] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


class Attachment:
    """An attached eraser. `detach()`, or leaving the `with` block, restores the pipeline exactly."""

    def __init__(self, eraser: ConceptEraser, module: nn.Module, token: int, undo: Callable[[], None]) -> None:
        self.eraser = eraser
        self._module = module
        self._token: int | None = token
        self._undo = undo

    def detach(self) -> None:
        """Take the eraser off; harmless when done twice."""
        with _lock:
            if self._token is None:
                return
            station = _stations[self._module]
            station.remove(self._token)
            self._token = None
            if not station.entries:
                station.handle.remove()
                del _stations[self._module]
            self._undo()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.detach()


def attach(eraser: ConceptEraser, target: Any, *, edit_negative: bool, allow_mismatch: bool) -> Attachment:
    """See `ConceptEraser.attach`."""
    tower = target if isinstance(target, TextTower) else TextTower.from_pipeline(target)
    if not allow_mismatch:
        eraser.check(tower)
    with _lock:
        station = _stations.get(tower.module)
        if station is None:
            station = _stations[tower.module] = _Station(tower.module)
        token = station.add(eraser, edit_negative)
        undo = _nothing if target is tower else _watch_encode_prompt(target, station)
    return Attachment(eraser, tower.module, token, undo)


def _nothing() -> None:
    return None


def _watch_encode_prompt(pipe: Any, station: _Station) -> Callable[[], None]:
    """Tell the station which text encoder calls of `pipe.encode_prompt` are for the prompt and which for the negative.

    Pipelines encode the prompt first (unless its embeddings were given), then the negative prompt. Returns the undoing;
    watching a pipeline twice counts, and only the last undoing restores it.
    """
    watched: Any = pipe.__dict__.get("encode_prompt")
    if watched is not None and hasattr(watched, "watchers"):
        watched.watchers += 1
    else:
        original = pipe.encode_prompt
        parameters = signature(original)

        @wraps(original)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            arguments = parameters.bind(*args, **kwargs).arguments | kwargs
            given = isinstance(arguments.get("prompt_embeds"), Tensor)
            # with clip_skip the pipeline calls the final norm once more, on the hidden state that it chose
            calls = 1 if arguments.get("clip_skip") is None else 2
            station.state.positive_calls = 0 if given else calls
            try:
                return original(*args, **kwargs)
            finally:
                station.state.positive_calls = None

        vars(encode_prompt).update(watchers=1, replaced=watched)
        pipe.encode_prompt = watched = encode_prompt

    def undo() -> None:
        watched.watchers -= 1
        if watched.watchers == 0 and pipe.__dict__.get("encode_prompt") is watched:
            if watched.replaced is None:
                del pipe.encode_prompt
            else:  # someone else's, put on the pipeline before
                pipe.encode_prompt = watched.replaced

    return undo
