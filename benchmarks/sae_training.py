"""Training the same SAE on the same tensors with snce and its peers, in turns: docs/speed.md.

make peers                                    environments of the peers, in .venv-peers
python -m benchmarks.sae_training --out build/sae_training [--tokens N] [--only emblem]
(build/sae_training/sae_training.png is docs/speed-training.png)
python benchmarks/document.py docs/speed.md training build/sae_training/table.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.sae_training_data import DATA, Made
from benchmarks.sae_training_report import picture, table

from snce.storage import write_text

HERE = Path(__file__).parent
PEERS = ("snce", "plain", "sae_lens", "dictionary_learning", "sparsify", "overcomplete")
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


SETTINGS = {
    "emblem": Setting(256, 4096, tokens=128 * 4096, rounds=6),
    "synthetic": Setting(768, 12288, tokens=32 * 4096, rounds=3),
}


class Process:
    """A library at work: see benchmarks/sae_training_peer.py."""

    def __init__(self, name: str, python: Path | str, job: Path) -> None:
        command = [str(python), str(HERE / "sae_training_peer.py"), name, str(job)]
        offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "SPARSIFY_DISABLE_TRITON": "1"}
        log = job.with_name(f"{name}.log").open("w")
        self.pipe = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | offline
        )

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


def dense_product(setting: Setting, repeats: int = 3) -> dict[str, float]:
    """Seconds of the encoder's forward product in bfloat16, into memory that is there already."""
    x = torch.randn(setting.batch, setting.width).bfloat16()
    w = torch.randn(setting.latents, setting.width).bfloat16()
    out = torch.empty(setting.batch, setting.latents, dtype=torch.bfloat16)
    torch.mm(x, w.T, out=out)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        torch.mm(x, w.T, out=out)
    return {"wall": (time.perf_counter() - wall) / repeats, "cpu": (time.process_time() - cpu) / repeats}


def compare(name: str, setting: Setting, pythons: dict[str, Path | str], out: Path) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    made = DATA[name](setting.width, setting.latents, setting.tokens, out / "x.f32")
    each = max(1, setting.tokens // setting.batch // setting.rounds)
    job = {**asdict(setting), "data": str(out / "x.f32"), "rows": made.rows, "steps": each * setting.rounds}
    write_text(out / "job.json", json.dumps(job))
    processes = {peer: Process(peer, python, out / "job.json") for peer, python in pythons.items()}
    turns: dict[str, list[dict[str, float]]] = {peer: [] for peer in processes}
    products = []
    for turn in range(setting.rounds):
        products.append(dense_product(setting))
        for peer, process in processes.items():
            if turn == 0:
                process.tell(f"run {WARM_UP}")
            steps = each - (WARM_UP if turn == 0 else 0)
            spent = process.tell(f"run {steps}")
            process.tell(f"export {out / peer}.f32")
            # a figure per step, and what the run so far has come to
            entry = {"wall": spent["wall"] / steps, "cpu": spent["cpu"] / steps, "peak_mib": spent["peak_mib"]}
            entry |= evaluate(Path(f"{out / peer}.f32"), setting, made) | {"tokens": each * (turn + 1) * setting.batch}
            turns[peer].append(entry)
            print(name, peer, {key: round(value, 4) for key, value in entry.items()}, flush=True)
    for process in processes.values():
        process.end()
    return {
        "setting": asdict(setting) | {"steps": job["steps"], "rows": made.rows, "threads": torch.get_num_threads()},
        "product": {key: statistics.median(p[key] for p in products) for key in ("wall", "cpu")},
        "turns": turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="folder of their environments")
    parser.add_argument("--tokens", type=int, help="tokens of each run, in place of the setting's")
    parser.add_argument("--only", choices=sorted(SETTINGS), help="keeps what --out has of the other")
    args = parser.parse_args()
    pythons: dict[str, Path | str] = {"snce": sys.executable, "plain": sys.executable}
    pythons |= {peer: args.peers.absolute() / peer / "bin" / "python" for peer in PEERS if peer not in pythons}
    missing = [str(python) for python in pythons.values() if not Path(python).exists()]
    if missing:
        raise SystemExit(f"no {', '.join(missing)}: run `make peers` first")
    store = args.out / "results.json"
    results = json.loads(store.read_text()) if args.only and store.exists() else {}
    for name, setting in SETTINGS.items():
        if args.only in (None, name):
            tokens = args.tokens or setting.tokens
            results[name] = compare(name, Setting(**asdict(setting) | {"tokens": tokens}), pythons, args.out / name)
            write_text(store, json.dumps(results, indent=1))
    write_text(args.out / "table.md", table(results))
    picture(results, args.out / "sae_training.png")
    print(table(results))


if __name__ == "__main__":
    main()
