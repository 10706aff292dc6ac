"""One cell of the benchmark: a method with one setting on one set of erased concepts."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snce.bench.ablations import ABLATIONS
from snce.bench.judged import Seen, look
from snce.bench.lineup import BASE, FOR_SETS, METHODS, Workshop, setting_of, with_setting
from snce.bench.near import by_looks, by_name, nearest
from snce.bench.prompts import KINDS, Sizes, held_out_synonym, precision_prompts
from snce.bench.recipe import recipe
from snce.bench.rows import SEPARATOR, Cost, Row
from snce.demo.grid import contact_sheet
from snce.demo.pictures import BATCH, draw
from snce.emblem.concepts import load_concept
from snce.emblem.vocabulary import vocabulary
from snce.storage import kept_tensors, slug

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image

    from snce.bench.methods.base import Method
    from snce.bench.prompts import BenchPrompt
    from snce.text.prompts import Concept

_KIND = "snce-bench-pictures-1"
MAKERS = METHODS | ABLATIONS
SIZES = Sizes()


@dataclass(frozen=True)
class Cell:
    method: str
    setting: float | None
    """Of the method's knob; None for the one that it starts from."""
    erased: tuple[str, ...]
    sizes: Sizes = SIZES
    look_alikes: bool = False
    """Neighbours are those by looks, not by name, and they are the partners in pairs, too."""

    @property
    def together(self) -> bool:
        """Whether several concepts are erased at once."""
        return len(self.erased) > 1

    @property
    def key(self) -> str:
        """A file name."""
        erased = self.erased[0]
        if self.together:
            erased += f"-and-{len(self.erased) - 1}-more-{hashlib.sha256(repr(self.erased).encode()).hexdigest()[:8]}"
        parts = [self.method, "default" if self.setting is None else f"{self.setting:g}", erased]
        return "__".join(map(slug, [*parts, "look-alikes"] if self.look_alikes else parts))


class Bench:
    """Runs cells. Pictures of the base model are drawn once per set of prompts and kept in `folder`."""

    def __init__(self, folder: Path, progress: bool = False):
        self.folder = folder
        self.workshop = Workshop(folder, progress)
        self._prompts: dict[tuple[tuple[str, ...], Sizes, bool], list[BenchPrompt]] = {}
        self._recipes: dict[tuple[str, float | None, bool], str] = {}

    @cached_property
    def _names(self) -> Tensor:
        return by_name(self.workshop.lab)

    @cached_property
    def _looks(self) -> Tensor:
        return by_looks(self.workshop.lab, self.folder, self.workshop.progress)

    def neighbours(self, cell: Cell) -> dict[str, list[str]]:
        """Of each erased object of the cell."""
        return nearest(self._looks if cell.look_alikes else self._names, cell.erased)

    def prompts(self, cell: Cell) -> list[BenchPrompt]:
        """Those of all methods on the same concepts are the same."""
        key = cell.erased, cell.sizes, cell.look_alikes
        if key not in self._prompts:
            near = self.neighbours(cell)
            self._prompts[key] = precision_prompts(cell.erased, near, cell.sizes, near if cell.look_alikes else None)
        return self._prompts[key]

    def stamp(self, cell: Cell) -> str:
        """The same for cells that draw the same prompts with the same weights, by whatever method."""
        digest = hashlib.sha256(repr(self.prompts(cell)).encode()).hexdigest()[:16]
        return f"{self.workshop.lab.fingerprint} {self.workshop.lab.judge_fingerprint} {digest}"

    def recipe(self, cell: Cell) -> str:
        """The same for cells whose methods are made from the same."""
        key = cell.method, cell.setting, cell.together
        if key not in self._recipes:
            self._recipes[key] = recipe(self._method(cell))
        return self._recipes[key]

    def made(self, cell: Cell) -> tuple[Method, list[Concept]]:
        """The cell's method, and what it is to be prepared for.

        The words that are kept back for one concept are in no other's prompts either.
        """
        without = {word for name in cell.erased if (word := held_out_synonym(name))}
        return self._method(cell), [load_concept(name, without=without) for name in cell.erased]

    def _method(self, cell: Cell) -> Method:
        makers = MAKERS | FOR_SETS if cell.together else MAKERS
        method = makers[cell.method](self.workshop)
        return method if cell.setting is None else with_setting(method, cell.setting)

    def run(self, cell: Cell) -> tuple[list[Row], Cost, Image]:
        """Prepare, draw, judge: (rows, cost, a strip of pictures before and after)."""
        pipe = self.workshop.lab.pipe
        prompts = self.prompts(cell)
        before, seen_before = self._before(cell, prompts)
        method, concepts = self.made(cell)
        start = time.process_time()  # not the clock: other work on the machine must not count
        erasure = method.prepare(pipe, concepts)
        prepared = time.process_time() - start
        with erasure.attached(pipe):
            start = time.process_time()
            after = draw(pipe, prompts)
            drawn = (time.process_time() - start) / (-(-len(prompts) // BATCH) * BATCH)
        seen_after = look(self.workshop.lab.judge, after, prompts)
        rows = _rows(cell, setting_of(method), prompts, (before, after), (seen_before, seen_after))
        return rows, Cost(prepared, erasure.nbytes, drawn), _strip(prompts, before, after)

    def _before(self, cell: Cell, prompts: Sequence[BenchPrompt]) -> tuple[Tensor, Seen]:
        lab = self.workshop.lab
        own = replace(cell, method=BASE, setting=None)
        path = self.folder / "before" / f"{own.key}-{len(prompts)}.safetensors"
        stamp = f"{lab.fingerprint} {[(p.text, p.seed) for p in prompts]}"
        pictures = kept_tensors(path, _KIND, stamp, lambda: {"pictures": draw(lab.pipe, prompts)})["pictures"]
        return pictures, look(lab.judge, pictures, prompts)


def _strip(prompts: Sequence[BenchPrompt], before: Tensor, after: Tensor) -> Image:
    """The first two pictures of each kind of prompt, before above after."""
    shown = [i for kind in KINDS for i in [j for j, p in enumerate(prompts) if p.kind == kind][:2]]
    return contact_sheet(torch.cat([before[shown], after[shown]]), columns=len(shown), side=64)


def _rows(
    cell: Cell, setting: float, prompts: Sequence[BenchPrompt], pictures: tuple[Tensor, Tensor], seen: tuple[Seen, Seen]
) -> list[Row]:
    styles = vocabulary().styles
    (before, after), (was, now) = pictures, seen
    error = (before.float() - after.float()).square().mean((1, 2, 3))
    psnr = 10 * torch.log10(255**2 / error)  # infinite where nothing changed
    rows = []
    for i, p in enumerate(prompts):
        expected = styles.index(p.style) if p.style else int(was.style[i])
        rows.append(
            Row(
                method=cell.method,
                setting=setting,
                erased=SEPARATOR.join(cell.erased),
                kind=p.kind,
                concept=p.concept,
                prompt=p.text,
                seed=p.seed,
                style_named=p.style is not None,
                target_before=bool(was.target[i]),
                target_after=bool(now.target[i]),
                kept_before=bool(was.kept[i]),
                kept_after=bool(now.kept[i]),
                style_before=int(was.style[i]) == expected,
                style_after=int(now.style[i]) == expected,
                identical=bool((before[i] == after[i]).all()),
                psnr=float(psnr[i]),
                features_before=was.features[i].half().numpy(),
                features_after=now.features[i].half().numpy(),
            )
        )
    return rows
