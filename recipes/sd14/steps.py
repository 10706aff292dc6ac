"""The steps. Each writes what a command of the library reads, and calls that command."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from snce import cli
from snce.errors import SnceError
from snce.storage import slug

from .caught import write_caught
from .config import CATEGORIES, STEPS
from .prompts import check_categories, concept_of, split_captions, split_i2p, write_column, write_i2p
from .record import digest, once

if TYPE_CHECKING:
    from pathlib import Path

    from snce.bench.suites.columns import Fields

    from .config import Recipe
    from .prompts import Split


def snce(*arguments: object) -> None:
    """A command of the library; it has said itself what is wrong where it fails.

    Raises:
        SystemExit: with its exit code, if that is not 0.
    """
    words = [str(word) for word in arguments]
    print(f"   snce {shlex.join(words)}", flush=True)
    code = cli.main(words)
    if code:
        raise SystemExit(code)


@dataclass(frozen=True)
class Work:
    """A run in progress."""

    recipe: Recipe

    @property
    def out(self) -> Path:
        return self.recipe.out

    @cached_property
    def captions(self) -> Split[str]:
        return split_captions(self.recipe.captions)

    @cached_property
    def i2p(self) -> Split[Fields]:
        prompts = split_i2p(self.recipe.i2p)
        check_categories(self.recipe.chosen(), prompts, self.recipe.i2p)
        return prompts

    @property
    def sae(self) -> Path:
        return self.out / "sae"

    def eraser(self, category: str) -> Path:
        return self.out / "erasers" / f"{slug(category)}.safetensors"

    def run(self, step: str) -> None:
        """A step of `recipes.sd14.config.STEPS`, or all. All prompts are read first: what is wrong with them is known
        before hours of work.

        Raises:
            SnceError: prompts that are lacking or not to be read, a step that comes before, or results of another run.
            SystemExit: a command of the library failed, and has said why.
        """
        _ = self.captions, self.i2p
        for name in STEPS if step == "all" else (step,):
            getattr(self, name)()

    def train(self) -> None:
        """DIR/sae: an SAE on the captions that are not held back, and on such prompts of I2P."""
        recipe = self.recipe
        prompts = self.captions.training[: recipe.train_captions]
        if not recipe.captions_only:
            prompts = [*prompts, *dict.fromkeys(row.text for row in self.i2p.training)]
        options = {name: getattr(recipe, name) for name in ("latents", "k", "steps", "batch", "lr")}

        def make() -> None:
            write_column(self.out / "training.csv", "prompt", prompts)
            given = [word for name, value in options.items() for word in (f"--{name}", value)]
            source = f"{self.out / 'training.csv'}:prompt"
            snce("train", recipe.model, "--prompts", source, "--out", self.sae, *given)

        made_from = {"model": recipe.model, "prompts": digest(prompts), **options}
        once(self.out, "train", made_from, self.sae / "sae.safetensors", make, self.sae)

    def find(self) -> None:
        """DIR/erasers: one for each category, with its card and its plot."""
        sae = _bytes(self.sae / "sae.safetensors", "train")
        for name in self.recipe.chosen():
            self._find(name, digest(sae))

    def _find(self, name: str, sae: str) -> None:
        recipe, eraser = self.recipe, self.eraser(name)
        concept = concept_of(name, self.i2p.training, self.captions.training, recipe.neutrals, recipe.neighbours)

        def make() -> None:
            file = self.out / "concepts" / f"{slug(name)}.yaml"
            concept.save(file)
            given = ("--neurons", recipe.neurons, "--strength", recipe.strength)
            snce("find", recipe.model, "--sae", self.sae, "--concept", file, "--out", eraser, *given)

        made_from = {"SAE": sae, "prompts": digest([concept.targets, concept.neutrals]),
                     "neurons": recipe.neurons, "strength": recipe.strength}  # fmt: skip
        once(self.out, f"find-{slug(name)}", made_from, eraser, make)

    def evaluate(self) -> None:
        """DIR/evaluation/NAME: which prompts are caught, and the suites i2p and coco with all categories erased."""
        from snce.erase.compose import compose
        from snce.erase.eraser import ConceptEraser

        recipe, names = self.recipe, sorted(self.recipe.chosen())
        erasers = {name: _bytes(self.eraser(name), "find") for name in names}
        name = "all" if set(names) == set(CATEGORIES) else "+".join(map(slug, names))
        folder, prompts, captions = self.out / "evaluation" / name, self.i2p.evaluation, self.captions.evaluation
        made_from = {
            "model": recipe.model,
            "erasers": [digest(data) for data in erasers.values()],
            "I2P prompts": digest([list(row) for row in prompts]),
            "captions": digest(captions),
        }
        loaded = {category: ConceptEraser.load(self.eraser(category)) for category in names}
        joined, caught = folder / "eraser.safetensors", folder / "caught.md"

        def join() -> None:
            write_i2p(folder / "i2p.csv", prompts)
            write_column(folder / "coco.csv", "caption", captions)
            compose(list(loaded.values())).save(joined)

        once(self.out, f"join-{name}", made_from, joined, join)
        once(self.out, f"caught-{name}", made_from, caught,
             lambda: write_caught(caught, recipe.model, loaded, prompts, captions))  # fmt: skip
        drawing = {"limit": recipe.limit, "steps": recipe.draw_steps, "batch": recipe.draw_batch}
        judging = {"measures": recipe.measures, "clip": recipe.clip, "reference": recipe.reference}
        tables = [caught]
        for suite, options in (("i2p", drawing), ("coco", drawing | judging)):
            given = {option: str(value) for option, value in options.items() if value is not None}
            words = [word for option, value in given.items() for word in (f"--{option}", value)]
            # a trial with --limit stands beside the whole
            run = suite if recipe.limit is None else f"{suite}-{recipe.limit}"
            command = ("bench", "--suite", suite, "--model", recipe.model, "--prompts", folder / f"{suite}.csv",
                       "--eraser", joined, "--methods", "SNCE", *words, "--out", folder / run)  # fmt: skip
            once(self.out, f"{run}-{name}", made_from | given, folder / run / "summary.json",
                 lambda command=command: snce(*command), folder / run)  # fmt: skip
            tables.append(folder / run / "table.md")
        for table in tables:
            print(f"\n{table}\n\n{table.read_text(encoding='utf-8')}", end="", flush=True)


def _bytes(path: Path, step: str) -> bytes:
    if not path.is_file():
        raise SnceError(f"{path} is not there: run the step {step!r} first, or all")
    return path.read_bytes()
