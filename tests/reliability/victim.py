"""The command line in processes that are killed.

`python -m tests.reliability.victim` imports everything once, and then runs every command that it reads, a line of JSON
each, in a process of its own: forked, with a session and a process group of its own, as a shell would start it. Such a
process kills itself with SIGKILL just before its n-th operation on a file under a folder, if it is told so.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

FILE_OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate")


def count_operations(folder: str, kill_at: int | None) -> list[int]:
    """[operations on files under the folder so far]. Among them is `os.write`, by which the cache writes its blocks."""
    count, write = [0], os.write

    def begin(file: Any) -> None:
        """An operation on a file, which is given by its path or by its number."""
        path = Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else file
        if str(path).startswith(folder):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple) -> None:
        if event in FILE_OPERATIONS:
            begin(arguments[0])

    def counted_write(file: int, data: bytes) -> int:
        begin(file)
        return write(file, data)

    sys.addaudithook(hook)
    os.write = counted_write  # it has no audit event
    return count


def small_benchmark() -> None:
    """Cells of the benchmark with a few pictures of two denoising steps in place of a hundred of twenty, and an SAE of
    few latents, captions and steps."""
    from dataclasses import replace
    from functools import partial, partialmethod

    from snce.bench import cells, lineup, plan, turns
    from snce.bench.prompts import Sizes

    cells.draw = turns.draw = partial(cells.draw, steps=2)
    plan.sizes_for = lambda _: Sizes(direct=2, synonym=1, sentence=1, pair=2, neighbour=1, other=1)
    lineup.SAE = replace(lineup.SAE, latents=64)
    training = replace(lineup.TRAINING, steps=100, batch=16)
    lineup.Workshop.text_sae = partialmethod(lineup.Workshop.text_sae, training=training, captions=400)


def use_threads(number: int) -> None:
    """Of PyTorch. The process that this one was forked from has none but its first, so that they can be begun here."""
    import torch

    torch.set_num_threads(number)
    assert torch.get_num_threads() == number


def run(job: dict[str, Any], log: int) -> None:
    """Run a command and end the process. `log`: where its output goes."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(log, stream)
    if job["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
    if job["command"][0] == "bench" and "--suite" not in job["command"]:
        small_benchmark()
    from snce.cli import main

    use_threads(job["threads"])

    count = count_operations(job["folder"], job["kill_at"])
    try:
        code = main(job["command"])
        Path(job["counted"]).write_text(str(count[0]))
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Answer each line with the process's id, and with its exit code, minus the signal's number if it was killed."""
    import torch

    torch.set_num_threads(1)
    import_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        output, log = os.pipe()  # holds more than any command says; a file would fall under the limit on files
        if (pid := os.fork()) == 0:
            run(job, log)
        os.close(log)
        print(pid, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with os.fdopen(output, "rb") as said:
            Path(job["log"]).write_bytes(said.read())
        print(code, flush=True)


def import_everything() -> None:
    """What the commands import on their way: it takes longer than their work."""
    from importlib import import_module

    from diffusers import StableDiffusionPipeline
    from transformers import AutoModelForImageClassification, CLIPTextModel, CLIPTokenizer

    assert StableDiffusionPipeline
    assert AutoModelForImageClassification
    assert CLIPTextModel
    assert CLIPTokenizer
    for name in ("commands.train", "commands.harvest", "commands.find", "commands.bench", "sae.train", "neurons.plot",
                 "erase.card", "erase.build", "bench.run", "emblem.load", "text.harvest", "engines.local",
                 "commands.generate", "commands.drawing", "commands.firing", "commands.picture_files",
                 "bench.suites.run"):  # fmt: skip
        import_module(f"snce.{name}")


if __name__ == "__main__":
    serve()
