"""Full disks, and folders that cannot be written: a clear error, and nothing lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snce.cli import main
from snce.errors import SnceError
from snce.storage import replacing
from snce.temporaries import PREFIX, temporary_file, temporary_folder
from snce.text.towers import TextTower
from tests.examples import eraser_for, random_eraser, tiny_pipeline
from tests.reliability.folders import files_in
from tests.reliability.kills import Outcome, Shop
from tests.studio import Studio, find, generate, generate_all, train

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    it = Shop(tmp_path_factory.mktemp("shop"))
    yield it
    it.close()


def harvest(it: Studio, out: Path) -> list[str]:
    return ["harvest", it.model, "--prompts", str(it.prompts), "--out", str(out)]


def bake(it: Studio, out: Path) -> list[str]:
    return ["bake", it.model, "--eraser", str(it.eraser), "--out", str(out)]


def one_cell(out: Path) -> list[str]:
    """Of the benchmark: a method on a concept."""
    return ["bench", "--out", str(out), "--methods", "UCE", "--concepts", "bomb", "--sets", "1", "--no-tune"]


def refused_by_a_full_disk(outcome: Outcome, folder: Path, told: str) -> None:
    """One line that names what could not be written."""
    assert outcome.code == 2
    (complaint,) = (line for line in outcome.output.splitlines() if "error: " in line)
    assert told in complaint
    assert "File too large" in complaint
    assert "Traceback" not in outcome.output
    assert not list(folder.rglob(f"{PREFIX}*"))


@linux
def test_a_full_disk_is_one_line_and_leaves_what_was_there(studio, shop, tmp_path):
    for command, kept, refused in (
        (train(studio, tmp_path / "train"), "sae.safetensors", "progress.json"),
        (find(studio, tmp_path / "find" / "gun.safetensors"), "gun.safetensors", "gun.safetensors"),
        (generate(studio, tmp_path / "generate" / "x.png", "a cat"), "x.png", "x.png"),
        (harvest(studio, tmp_path / "harvest"), "mine.txt", "progress.json"),
    ):
        folder = tmp_path / command[0]
        folder.mkdir()
        (folder / kept).write_text("old")
        refused_by_a_full_disk(shop.run(command, folder, largest_file=60), folder, refused)
        assert (folder / kept).read_text() == "old"


@linux
def test_a_disk_that_is_full_when_the_sae_is_written_keeps_the_old_one(studio, shop, tmp_path):
    """Or its checkpoint: the embeddings are there already, and are only read."""
    command, sae = train(studio, tmp_path), tmp_path / "sae.safetensors"
    assert shop.run(command, tmp_path).code == 0
    written, limit = files_in(tmp_path), 5000
    assert sae.stat().st_size > limit
    sae.write_text("old")
    refused_by_a_full_disk(shop.run(command, tmp_path, largest_file=limit), tmp_path, sae.name)
    assert files_in(tmp_path) == written | {sae.name: b"old"}
    (tmp_path / "checkpoint.safetensors").unlink()
    refused_by_a_full_disk(shop.run(command, tmp_path, largest_file=limit), tmp_path, "checkpoint.safetensors")
    assert sae.read_text() == "old"
    assert shop.run(command, tmp_path).code == 0
    assert files_in(tmp_path) == written


@linux
def test_a_disk_that_is_full_in_the_middle_of_a_harvest_is_one_line(studio, shop, tmp_path):
    """What is known of the embeddings is written already; the next run goes on from there."""
    command, limit = harvest(studio, tmp_path / "out"), 5000
    assert shop.run(command, tmp_path).code == 0
    written = files_in(tmp_path)
    (embeddings,) = tmp_path.rglob("embeddings.npy")
    assert embeddings.stat().st_size > limit
    shutil.rmtree(tmp_path / "out")
    refused_by_a_full_disk(shop.run(command, tmp_path, largest_file=limit), tmp_path, f"the cache {tmp_path / 'out'}")
    assert shop.run(command, tmp_path).code == 0
    assert files_in(tmp_path) == written


@linux
def test_a_disk_that_is_full_while_pictures_are_drawn_keeps_those_that_are_there(studio, shop, tmp_path):
    """It has no room for the settings; then for a picture; then for the list."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(noun * 200 for noun in ("cat ", "dog ", "hat ")))
    out = tmp_path / "out"
    command = [*generate_all(studio._replace(prompts=prompts), out), "--height", "32", "--width", "32"]
    refused_by_a_full_disk(shop.run(command, out, largest_file=60), out, "settings.json")
    assert files_in(out) == {}
    assert shop.run(command, out).code == 0
    written = files_in(out)
    limit = len(written["settings.json"])
    for file in ("000002.png", "prompts.csv"):
        assert len(written[file]) > limit
        (out / file).unlink()
        refused_by_a_full_disk(shop.run(command, out, largest_file=limit), out, file)
        assert files_in(out) == {name: content for name, content in written.items() if name != file}
        assert shop.run(command, out).code == 0
        assert files_in(out) == written


@linux
def test_a_disk_that_is_full_while_a_model_is_baked_leaves_no_folder(studio, shop, tmp_path):
    """It has no room for the config; for the weights, of which safetensors complains with an error of its own; for
    another part of the model."""
    command = bake(studio, tmp_path / "baked")
    assert shop.run(command, tmp_path).code == 0
    sizes = {str(p.relative_to(tmp_path / "baked")): p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()}
    shutil.rmtree(tmp_path / "baked")
    weights = sizes["text_encoder/model.safetensors"]
    assert weights == max(size for name, size in sizes.items() if name.startswith("text_encoder/"))
    assert weights < max(sizes.values())
    for limit in (60, weights - 1, max(sizes.values()) - 1):
        told = f"cannot write {tmp_path / 'baked'}: "
        refused_by_a_full_disk(shop.run(command, tmp_path, largest_file=limit), tmp_path, told)
        assert not list(tmp_path.iterdir())


@linux
def test_a_disk_that_is_full_in_the_benchmark_is_one_line(shop, tmp_path):
    """A file of rows that does not fit: tests/bench/test_rows.py."""
    pytest.importorskip("pyarrow")
    refused_by_a_full_disk(shop.run(one_cell(tmp_path), tmp_path, largest_file=60), tmp_path, f"{tmp_path / 'before'}/")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a file system that nobody can write to")
def test_a_read_only_file_system_is_noticed_before_any_work(studio, capsys):
    out = Path("/sys/kernel/snce")
    for command in (
        train(studio, out),
        find(studio, out / "e.safetensors"),
        generate(studio, out / "x.png", "a"),
        generate_all(studio, out),
        harvest(studio, out),
        bake(studio, out / "baked"),
        one_cell(out),
    ):
        # the model is not even looked at
        assert main(["no-such-model" if word == studio.model else word for word in command]) == 2
        assert "cannot write" in capsys.readouterr().err
    with pytest.raises(SnceError, match="cannot write"):
        random_eraser(0).save(out / "e.safetensors")


@pytest.mark.parametrize("kind", [temporary_file, temporary_folder])
def test_temporary_files_of_dead_processes_go_and_those_of_living_ones_stay(kind, tmp_path):
    """`os._exit` in the middle of a write is what kill -9 is to files."""
    begins = f"import os, sys; from pathlib import Path; from snce.temporaries import {kind.__name__} as begin\n"
    begins += "with begin(Path(sys.argv[1])) as path: (path / 'x' if path.is_dir() else path).write_text('half');"

    def run(ends: str) -> int:
        return subprocess.run([sys.executable, "-c", begins + ends, str(tmp_path)], check=False).returncode

    assert run("os._exit(9)") == 9
    (left,) = tmp_path.glob(f"{PREFIX}*")
    (tmp_path / "not-ours.txt").write_text("")
    (tmp_path / f"{PREFIX}not-ours").mkdir()
    with kind(tmp_path) as living:
        assert not left.exists()
        assert run("path.replace(path.with_name('f'))") == 0
        assert living.exists()
        with replacing(tmp_path / "g.txt") as path:
            path.write_text("g")
    assert {p.name for p in tmp_path.iterdir()} == {"f", "g.txt", "not-ours.txt", f"{PREFIX}not-ours"}


@linux
def test_a_model_whose_baking_was_killed_leaves_nothing_to_the_next(shop, tmp_path):
    model, eraser = tmp_path / "model", tmp_path / "e.safetensors"
    pipe = tiny_pipeline(0)
    pipe.save_pretrained(model)
    eraser_for(TextTower.from_pipeline(pipe), 0)[0].save(eraser)
    folder = tmp_path / "out"
    folder.mkdir()
    command = ["bake", str(model), "--eraser", str(eraser), "--out", str(folder / "baked")]
    assert shop.run(command, folder, kill_at=8).code == -9
    assert list(folder.glob(f"{PREFIX}*/text_encoder"))
    assert shop.run(command, folder).code == 0
    assert [path.name for path in folder.iterdir()] == ["baked"]
