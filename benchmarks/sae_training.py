"""Training the same SAE on the same tensors with snce and its peers, in turns: docs/speed.md.

make peers                                    environments of the peers, in .venv-peers
python -m benchmarks.sae_training --out build/sae_training --threads 2 [--tokens N] [--only emblem]
python benchmarks/document.py docs/speed.md training build/sae_training/threads-2.md
(build/sae_training/threads-2.png is docs/speed-training.png)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import PeakMemory, machine
from benchmarks.sae_training_data import DATA, Made
from benchmarks.sae_training_report import picture, table

from snce.storage import write_text

HERE = Path(__file__).parent
OURS = ("snce", "snce_default", "plain")
"""In this environment."""
THEIRS = {
    "sae_lens": "sae_lens", "dictionary_learning": "dictionary_learning", "sparsify": "sparsify",
    "sparsify_signum": "sparsify", "overcomplete": "overcomplete",
}  # fmt: skip
"""And the environment of each."""
WARM_UP = 2
"""Steps of every process that are not timed."""


@dataclass(frozen=True)
class Setting:
    width: int
    latents: int
    tokens: int
    rounds: int
    """Turns; FVU is taken after each."""
    lr: float = 1e-3
    k: int = 32
    batch: int = 4096
    dead_after: int = 150
    """Steps of silence after which a latent is dead, and AuxK trains it."""

    @property
    def each(self) -> int:
        """Steps of a turn."""
        return self.tokens // self.batch // self.rounds


SETTINGS = {
    "emblem": Setting(256, 4096, tokens=240 * 4096, rounds=12),
    "synthetic": Setting(768, 12288, tokens=240 * 4096, rounds=12),
}


class Process:
    """A library at work: see benchmarks/sae_training_peer.py."""

    def __init__(self, name: str, python: Path | str, job: Path, threads: int) -> None:
        command = [str(python), "-m", "benchmarks.sae_training_peer", name, str(job)]
        settings = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "SPARSIFY_DISABLE_TRITON": "1"}
        settings["OMP_NUM_THREADS"] = str(threads)
        log = job.with_name(f"{name}.log").open("w")
        self.pipe = subprocess.Popen(
            command, cwd=HERE.parent, env=os.environ | settings, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        self.peak = 0.0
        """MiB of its own at most while it trained, above what it held before the library built the SAE."""

    def run(self, steps: int) -> dict[str, float]:
        """Seconds a step."""
        with PeakMemory(self.pipe.pid) as memory:
            spent = self.tell(f"run {steps}")
        self.peak = max(self.peak, (memory.peak - spent["held"]) / 2**20)
        return {key: spent[key] / steps for key in ("wall", "cpu")}

    def tell(self, command: str) -> dict[str, float]:
        assert self.pipe.stdin
        assert self.pipe.stdout
        print(command, file=self.pipe.stdin, flush=True)
        answer = self.pipe.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.pipe.args} ended; see its log")
        return json.loads(answer)

    def end(self) -> None:
        assert self.pipe.stdin
        self.pipe.stdin.close()
        self.pipe.wait()


@torch.no_grad()
def evaluate(weights: Path, setting: Setting, made: Made) -> dict[str, float]:
    """The common judge: top k of ReLU, decoded, against held-out rows; and the true dictionary, if there is one."""
    m, d = setting.latents, setting.width
    sizes = [m * d, m, m * d, d, d]
    w_enc, b_enc, w_dec, b_pre, b_out = torch.from_file(str(weights), shared=False, size=sum(sizes)).split(sizes)
    w_enc, w_dec = w_enc.view(m, d), w_dec.view(m, d)
    unexplained, fired = 0.0, torch.zeros(m, dtype=torch.bool)
    for x in made.held_out.split(1024):
        values, places = ((x - b_pre) @ w_enc.T + b_enc).topk(setting.k)
        z = torch.zeros(len(x), m).scatter(1, places, values.relu())
        unexplained += (x - z @ w_dec - b_out).square().sum().item()
        fired |= (z > 0).any(0)
    total = (made.held_out - made.held_out.mean(0)).square().sum().item()
    result = {"fvu": unexplained / total, "dead": 1 - fired.float().mean().item()}
    if made.atoms is not None:
        rows = torch.nn.functional.normalize(w_dec, dim=1)
        best = torch.cat([(part @ rows.T).amax(1) for part in made.atoms.split(1024)])
        result |= {"recovered": (best > 0.9).float().mean().item(), "cosine": best.mean().item()}
    return result


def dense_product(setting: Setting, repeats: int = 10) -> dict[str, float]:
    """Seconds of the encoder's forward product in bfloat16, into memory that is there already."""
    x = torch.randn(setting.batch, setting.width).bfloat16()
    w = torch.randn(setting.latents, setting.width).bfloat16()
    out = torch.empty(setting.batch, setting.latents, dtype=torch.bfloat16)
    torch.mm(x, w.T, out=out)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        torch.mm(x, w.T, out=out)
    return {"wall": (time.perf_counter() - wall) / repeats, "cpu": (time.process_time() - cpu) / repeats}


def compare(name: str, setting: Setting, threads: int, pythons: dict[str, Path | str], out: Path) -> dict[str, Any]:
    out, each = out.absolute(), setting.each
    if each <= WARM_UP:
        least = (WARM_UP + 1) * setting.rounds * setting.batch
        raise SystemExit(
            f"{name}: {setting.tokens:,} tokens are too few for {setting.rounds} turns; give at least {least:,}"
        )
    out.mkdir(parents=True, exist_ok=True)
    made = DATA[name](setting.width, setting.latents, setting.tokens, out / "x.f32")
    job = {**asdict(setting), "data": str(out / "x.f32"), "rows": made.rows, "steps": each * setting.rounds}
    write_text(out / "job.json", json.dumps(job))
    processes = {peer: Process(peer, python, out / "job.json", threads) for peer, python in pythons.items()}
    turns: dict[str, list[dict[str, float]]] = {peer: [] for peer in processes}
    products = []
    for turn in range(setting.rounds):
        products.append(dense_product(setting))
        for peer, process in processes.items():
            if turn == 0:
                process.tell(f"run {WARM_UP}")
            # seconds a step, and what the run so far has come to
            entry = process.run(each - (WARM_UP if turn == 0 else 0)) | {"peak_mib": process.peak}
            process.tell(f"export {out / peer}.f32")
            entry |= evaluate(Path(f"{out / peer}.f32"), setting, made) | {"tokens": each * (turn + 1) * setting.batch}
            turns[peer].append(entry)
            print(name, peer, {key: round(value, 4) for key, value in entry.items()}, flush=True)
    for process in processes.values():
        process.end()
    told = {"each": each, "rows": made.rows, "held_out": len(made.held_out)}
    return {"setting": asdict(setting) | told, "product": products, "turns": turns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="folder of their environments")
    parser.add_argument("--tokens", type=int, help="tokens of each run, in place of the setting's")
    parser.add_argument("--only", choices=sorted(SETTINGS), help="keeps what --out has of the other")
    parser.add_argument("--threads", type=int, default=1, help="keeps what --out has of other numbers of threads")
    args = parser.parse_args()
    pythons: dict[str, Path | str] = dict.fromkeys(OURS, sys.executable)
    pythons |= {peer: args.peers.absolute() / home / "bin" / "python" for peer, home in THEIRS.items()}
    missing = [str(python) for python in pythons.values() if not Path(python).exists()]
    if missing:
        raise SystemExit(f"no {', '.join(missing)}: run `make peers` first")
    torch.set_num_threads(args.threads)
    store = args.out / "results.json"
    stored = json.loads(store.read_text()) if store.exists() else {}
    results = stored.setdefault(f"threads-{args.threads}", {})
    for name, setting in SETTINGS.items():
        if args.only in (None, name):
            setting = replace(setting, tokens=args.tokens or setting.tokens)
            results[name] = compare(name, setting, args.threads, pythons, args.out / name)
            write_text(store, json.dumps(stored, indent=1))
    text = f"{table(results)}\n{machine(args.threads)}.\n"
    write_text(args.out / f"threads-{args.threads}.md", text)
    picture(results, args.out / f"threads-{args.threads}.png", args.threads)
    print(text)


if __name__ == "__main__":
    main()
