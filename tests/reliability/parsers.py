"""Every parser of files, with a file that it reads and what must be true of what it makes of any other."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors.torch import load, save

from snce import checkpoint
from snce.bench.join import read_summary
from snce.bench.tuning import read_tuned
from snce.erase.compose import compose
from snce.erase.eraser import ConceptEraser
from snce.sae.config import SAEConfig
from snce.sae.formats import load_sae, save_sae
from snce.sae.origin import SAEOrigin
from snce.sae.saelens import load_saelens, save_saelens
from snce.sae.sparsify import load_sparsify, save_sparsify
from snce.storage import CHECKSUM
from snce.text.harvest import harvest
from snce.text.prompts import Concept, read_prompts
from tests.examples import FINGERPRINT, PROMPTS, random_embeddings, random_eraser, random_sae, same_bits
from tests.reliability.mutations import forged_text, gone_wrong, with_forged_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hypothesis.strategies import SearchStrategy

    from snce.text.towers import TextTower


@dataclass(frozen=True)
class Parser:
    name: str
    suffix: str
    content: bytes
    """Of a valid file."""
    read: Callable[[Path], Any]
    right: Callable[[Any, bytes], None]
    """Raises AssertionError if a result, of a file with these bytes, is none that may come of it."""
    forgers: tuple[Callable[[bytes], SearchStrategy[bytes]], ...] = ()

    def inputs(self) -> SearchStrategy[bytes]:
        return gone_wrong(self.content, *self.forgers)


# -- safetensors -------------------------------------------------------------------------------------------------------


def written(folder: Path, write: Callable[[Path], Any]) -> bytes:
    write(folder / "x.safetensors")
    return (folder / "x.safetensors").read_bytes()


def without_checksum(content: bytes) -> bytes:
    """The file as an earlier version wrote it."""
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    del metadata[CHECKSUM]
    return save(load(content), metadata)


def eraser_works(eraser: ConceptEraser, _content: bytes) -> None:
    """It edits what has its width, keeps no NaN, and comes back from a file of its own."""
    for part in eraser.parts:
        assert all(torch.isfinite(t.float()).all() for t in part.neurons)
        assert part.edit(random_embeddings(0, d=part.width).x).shape == (4, 7, part.width)
    joined = compose([eraser, eraser])
    assert len(joined.parts) == len(eraser.parts)
    repr(eraser)


def the_same_eraser(original: ConceptEraser) -> Callable[[ConceptEraser, bytes], None]:
    def check(eraser: ConceptEraser, content: bytes) -> None:
        if CHECKSUM.encode() not in content:  # even the name of the checksum was hit: a file of an earlier version
            return eraser_works(eraser, content)
        assert eraser.concepts == original.concepts
        for mine, its in zip(eraser.parts, original.parts, strict=True):
            assert (mine.begin, mine.fingerprint, mine.card) == (its.begin, its.fingerprint, its.card)
            assert all(same_bits(a, b) for a, b in zip(mine.neurons, its.neurons, strict=True))

    return check


@torch.no_grad()
def sae_works(found: tuple, _content: bytes) -> None:
    sae, origin = found
    data = random_embeddings(0, d=sae.config.width)
    assert sae(data.x, data.kinds).shape == data.x.shape
    assert isinstance(origin.fingerprint, str)


def a_training() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 4)
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.randn(5, 3)).square().mean().backward()
    optimizer.step()
    return model, optimizer


def read_checkpoint(path: Path) -> tuple:
    model, optimizer = a_training()
    return checkpoint.load(path, {"m": model}, {"o": optimizer}, "this"), model, optimizer


def training_goes_on(found: tuple, _content: bytes) -> None:
    step, model, optimizer = found
    assert step >= 0
    model(torch.ones(5, 3)).square().mean().backward()
    optimizer.step()


# -- text --------------------------------------------------------------------------------------------------------------


def prompts_are_the_lines(prompts: list[str], content: bytes) -> None:
    lines = re.split(r"\r\n|\r|\n", content.decode("utf-8-sig"))
    assert prompts == [line.strip() for line in lines if line.strip()]


def prompts_are_the_column(prompts: list[str], content: bytes) -> None:
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    assert prompts == [text for row in rows if (text := (row["caption"] or "").strip())]


def concept_is_that_of_yaml(concept: Concept, content: bytes) -> None:
    """What PyYAML makes of the whole file, where it makes anything."""
    for text in (concept.name, *concept.targets, *concept.neutrals):
        text.encode()
    assert concept.targets
    assert concept.neutrals
    try:
        raw = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, LookupError):
        return
    assert concept.targets == tuple(v.strip() for v in raw["targets"] if v.strip())
    assert concept.neutrals == tuple(v.strip() for v in raw["neutrals"] if v.strip())


def summary_is_printable(summary: dict, content: bytes) -> None:
    assert json.dumps(summary, ensure_ascii=False).encode()


def tuned_is_of_shares(found: dict, _content: bytes) -> None:
    for tried in found.values():
        assert all(math.isfinite(value) and 0 <= score <= 1 for value, score in tried.scores.items())
        tried.stamp.encode()


TXT = "a church\r\n\n  zwölf Äpfel \n\u2028a \U0001f600 hat\n".encode()
CSV = b'id,caption\r\n1,"a ""red"" church, old"\r\n2,\r\n3,"two\nlines"\n4,ein Haus\n'
YAML = b"""\
# of a test
name: church
harmful: ~
targets:
  - a church
  - "an \\u00e9glise"
  - 'St. Mary''s'
neutrals: [a barn, "a: b"]
"""
TUNED = b"""\
{"UCE": {"chosen": 0.5, "at the end of the grid": false, "harmonic mean by value": {"0.5": 0.75, "1": 0.5},
         "stamp": "f 1"}}"""


def folder_reader(folder: Path, load: Callable[..., Any], tower: TextTower) -> Callable[[str], Callable[[Path], Any]]:
    """Of a folder that holds an SAE of another library: by the name of one of its files, what reads an SAE with another
    file in place of that one."""
    data, contents = harvest(tower, PROMPTS), {path.name: path.read_bytes() for path in folder.iterdir()}

    def reader(name: str) -> Callable[[Path], Any]:
        def read(path: Path) -> Any:
            for other, content in contents.items():
                path.with_name(other).write_bytes(content)
            path.replace(path.with_name(name))
            return load(path.parent, tower, data)

        return read

    return reader


def foreign_saes(folder: Path, tower: TextTower) -> list[Parser]:
    """Descriptions and weights of SAEs as SAELens and eai-sparsify write them."""
    sae, origin = random_sae(0, SAEConfig.plain(tower.width, latents=12, k=3)), SAEOrigin(tower.fingerprint)
    found = []
    for library, write, read_folder in (
        ("sparsify", save_sparsify, load_sparsify),
        ("SAELens", save_saelens, load_saelens),
    ):
        write(sae, folder / library, origin)
        reader = folder_reader(folder / library, read_folder, tower)
        for path in sorted((folder / library).iterdir()):
            kind, forger = ("cfg.json", forged_text) if path.suffix == ".json" else ("weights", with_forged_header)
            content, read = path.read_bytes(), reader(path.name)
            found.append(Parser(f"{kind} of {library}", path.suffix, content, read, sae_works, (forger,)))
    return found


def parsers(folder: Path, summary: bytes, tower: TextTower) -> list[Parser]:
    """All of them. `folder` is for files that are made on the way."""
    one = random_eraser(1, "zwölf")
    towers = compose([one, ConceptEraser(random_eraser(2).neurons, ("b", "c"), FINGERPRINT, module="output.pooled")])
    sae = random_sae(0, SAEConfig(8, latents=12, k=3))
    origin = SAEOrigin(FINGERPRINT, training={"steps": 3}, metrics={"fvu": 0.5})
    model, optimizer = a_training()
    eraser = written(folder, one.save)
    several = written(folder, towers.save)
    autoencoder = written(folder, lambda path: save_sae(sae, path, origin))
    training = written(folder, lambda path: checkpoint.save(path, 7, {"m": model}, {"o": optimizer}, "this"))
    header, load_eraser = (with_forged_header,), ConceptEraser.load

    def read_csv(path: Path) -> list[str]:
        return read_prompts(f"{path}:caption")

    return [
        Parser("eraser", ".safetensors", eraser, load_eraser, the_same_eraser(one)),
        Parser("old eraser", ".safetensors", without_checksum(eraser), load_eraser, eraser_works, header),
        Parser("eraser of towers", ".safetensors", without_checksum(several), load_eraser, eraser_works, header),
        Parser("SAE", ".safetensors", autoencoder, load_sae, sae_works, header),
        Parser("old SAE", ".safetensors", without_checksum(autoencoder), load_sae, sae_works, header),
        Parser("checkpoint", ".safetensors", training, read_checkpoint, training_goes_on, header),
        *foreign_saes(folder, tower),
        Parser("prompts.txt", ".txt", TXT, lambda path: read_prompts(str(path)), prompts_are_the_lines),
        Parser("prompts.csv", ".csv", CSV, read_csv, prompts_are_the_column),
        Parser("concept", ".yaml", YAML, Concept.load, concept_is_that_of_yaml),
        Parser("tuned.json", ".json", TUNED, read_tuned, tuned_is_of_shares, (forged_text,)),
        Parser("summary.json", ".json", summary, read_summary, summary_is_printable, (forged_text,)),
    ]
