"""Two processes that run the same command in one folder at once leave what one leaves by itself."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import pytest

from snce.cli import main
from snce.text import harvest as module
from tests.reliability.folders import SameBytes, SameFigures, files_in
from tests.reliability.kills import Outcome, Shop
from tests.studio import find, generate, generate_all, small_bench, train

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: reads CPU times in /proc")


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    both = Shop(tmp_path_factory.mktemp("shop")), Shop(tmp_path_factory.mktemp("shop"))
    yield both
    for shop in both:
        shop.close()


def at_once(shops: tuple[Shop, Shop], command: list[str], folder: Path) -> list[Outcome]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda shop: shop.run(command, folder), shops))


def side_by_side(
    shops: tuple[Shop, Shop],
    command: Callable[[Path], list[str]],
    fresh: Callable[[], Path],
    check: Callable[[Path, bool], None],
) -> None:
    """One by itself; then two at once, again and again: in an empty folder, then in the one that they have filled."""
    alone = fresh()
    assert shops[0].run(command(alone), alone).code == 0
    check(alone, True)
    together = fresh()
    for _ in range(3):
        for outcome in at_once(shops, command(together), together):
            assert outcome.code == 0, outcome.output
        check(together, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["harvest", "train", "find", "generate", "generate --prompts"])
def test_two_processes_in_one_folder_leave_what_one_leaves(name, studio, shops, fresh):
    def command(out: Path) -> list[str]:
        return {
            "harvest": ["harvest", studio.model, "--prompts", str(studio.prompts), "--out", str(out)],
            "train": train(studio, out, "--steps", "500"),
            "find": find(studio, out / "e.safetensors"),
            "generate": generate(studio, out / "x.png", "a cat", erasers=(studio.eraser,)),
            "generate --prompts": generate_all(studio, out),
        }[name]

    side_by_side(shops, command, fresh, SameBytes())


WITHOUT_ENCODING = """
import sys
from snce.text import harvest
del harvest.encode_blocks
from snce.cli import main
sys.exit(main(sys.argv[1:]))
"""
PATIENCE = 600
"""Seconds, after which the second has said nothing."""


def test_the_second_of_two_harvests_says_that_it_waits_and_then_encodes_nothing(studio, tmp_path, monkeypatch):
    """The first goes on when the second has said so, or ended."""
    command = ["harvest", studio.model, "--prompts", str(studio.prompts), "--out", str(tmp_path)]
    waits, said, others = "waiting for another process that is writing to the cache", [], []
    encode_blocks = module.encode_blocks

    def encode_when_another_waits(tower, blocks):
        arguments = [sys.executable, "-c", WITHOUT_ENCODING, *command]
        second = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        others.append(second)
        silence = Timer(PATIENCE, second.kill)  # it would wait for this process, and this one for it
        silence.start()
        for line in second.stderr:
            said.append(line)
            if waits in line:
                break
        silence.cancel()
        yield from encode_blocks(tower, blocks)

    monkeypatch.setattr(module, "encode_blocks", encode_when_another_waits)
    assert main(command) == 0
    (second,) = others
    _, rest = second.communicate()
    assert second.returncode == 0, [*said, rest]
    assert any(waits in line for line in said)


@pytest.mark.slow
def test_two_benchmarks_in_one_folder_leave_the_rows_of_one(shops, fresh):
    """But for seconds, which are of whichever wrote last."""
    pytest.importorskip("pyarrow")
    side_by_side(shops, small_bench, fresh, SameFigures())


@pytest.mark.slow
def test_of_two_that_bake_into_one_folder_one_does_and_the_other_is_told(studio, shops, fresh):
    alone, together = fresh(), fresh()

    def command(out: Path) -> list[str]:
        return ["bake", studio.model, "--eraser", str(studio.eraser), "--out", str(out / "baked")]

    assert shops[0].run(command(alone), alone).code == 0
    refused, done = sorted(at_once(shops, command(together), together), key=lambda outcome: -outcome.code)
    assert (refused.code, done.code) == (2, 0), refused.output
    assert "error: " in refused.output
    assert files_in(together) == files_in(alone)
