"""The training benchmark of docs/speed.md at toy size: what is held out, what all libraries are given, and what its
table says."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
from benchmarks import sae_training, sae_training_peer
from benchmarks.sae_training_data import apart
from benchmarks.sae_training_report import NAMES, table

from snce.sae.config import TrainConfig

TOY = sae_training.Setting(16, 64, tokens=6 * 3 * 64, rounds=3, k=4, batch=64, dead_after=7)


def result(each: int, rounds: int, dead_after: int) -> dict:
    """As `compare` gives it: a turn of snce takes 2 s a step while no latent can be dead and 3 s after, the product 1 s
    and the other library 6 s."""
    turns = range(rounds)
    quality = {"peak_mib": 5.0, "fvu": 0.5, "dead": 0.25}
    snce = [{"cpu": 2.0 if i * each < dead_after else 3.0} for i in turns]
    other = [{"cpu": 6.0} for _ in turns]
    told = {"width": 16, "latents": 64, "k": 4, "batch": 60, "each": each, "rounds": rounds, "dead_after": dead_after}
    return {
        "setting": told | {"held_out": 10},
        "product": [{"cpu": 1.0, "wall": 4.0}] * rounds,
        "turns": {
            name: [entry | {"wall": 2 * entry["cpu"], "tokens": 60 * each * (i + 1)} | quality for i, entry in its]
            for name, its in (("snce", list(enumerate(snce))), ("plain", list(enumerate(other))))
        },
    }


def test_no_row_that_is_held_out_is_trained_on():
    """Captions that begin alike have their first rows in common."""
    rng = torch.Generator().manual_seed(0)
    words = torch.randint(1, 5, (60, 4), generator=rng)
    begun = torch.stack([words[:, : i + 1] @ 5 ** torch.arange(i + 1) for i in range(4)], dim=1)
    x = begun[:, :, None].half().expand(-1, -1, 5)
    used = torch.rand(60, 4, generator=rng) < 0.8
    fit, held_out = apart(x, used, 20)
    assert torch.equal(fit, x[20:][used[20:]])
    known = {tuple(row.tolist()) for row in fit}
    candidates = [tuple(row.tolist()) for row in x[:20][used[:20]]]
    assert [tuple(row.tolist()) for row in held_out] == [row for row in candidates if row not in known]
    assert 0 < len(held_out) < len(candidates)


def test_the_loops_of_this_repository_have_the_adam_of_snce(tmp_path, monkeypatch):
    torch.from_file(str(tmp_path / "x.f32"), shared=True, size=256 * 16).copy_(torch.randn(256 * 16))
    job = {"width": 16, "latents": 64, "k": 4, "lr": 2e-3, "batch": 64, "steps": 9, "rows": 256, "dead_after": 7}
    (tmp_path / "job.json").write_text(json.dumps(job | {"data": str(tmp_path / "x.f32")}))
    adam, built = torch.optim.Adam, []

    def record(parameters, **options):
        built.append(options)
        return adam(parameters, **options)

    monkeypatch.setattr(torch.optim, "Adam", record)
    with torch.random.fork_rng():
        for library in (sae_training_peer.snce, sae_training_peer.plain):
            library(sae_training_peer.Job(str(tmp_path / "job.json")))
        sae_training_peer.snce_default(sae_training_peer.Job(str(tmp_path / "job.json")))
    ours = {"betas": sae_training_peer.BETAS, "fused": True}
    assert built == [ours | {"lr": lr} for lr in (2e-3, 2e-3, TrainConfig().lr)]


def test_each_library_has_a_name_a_loop_and_an_environment():
    told = [*sae_training.OURS, *sae_training.THEIRS]
    assert set(told) == set(NAMES) == set(sae_training_peer.LIBRARIES)
    peers = (sae_training.HERE / "peers").glob("*.txt")
    assert {path.stem for path in peers} == set(sae_training.THEIRS.values())


def test_ours_at_its_own_rate_is_none_of_the_others():
    compared = result(each=10, rounds=5, dead_after=50)
    compared["turns"]["snce_default"] = [entry | {"cpu": 1.0, "wall": 1.0} for entry in compared["turns"]["snce"]]
    assert "The fastest of the others is plain PyTorch" in table({"toy": compared})


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_libraries_take_turns_in_processes_of_their_own(tmp_path):
    pythons = {"snce": sys.executable, "plain": sys.executable}
    compared = sae_training.compare("synthetic", TOY, 1, pythons, tmp_path)
    assert {name: len(turns) for name, turns in compared["turns"].items()} == {"snce": 3, "plain": 3}
    for turns in compared["turns"].values():
        assert [turn["tokens"] for turn in turns] == [6 * 64, 12 * 64, 18 * 64]
        assert all(turn["cpu"] > 0 and 0 < turn["fvu"] < 2 for turn in turns)
    assert compared["setting"]["held_out"] == 8192
    assert "18 steps in 3 turns" in table({"synthetic": compared})


def test_too_few_tokens_for_the_turns_are_refused(tmp_path):
    few = replace(TOY, tokens=2 * 3 * 64)
    with pytest.raises(SystemExit, match=r"384 tokens are too few for 3 turns; give at least 576"):
        sae_training.compare("synthetic", few, 1, {}, tmp_path)
    assert replace(few, tokens=576).each > sae_training.WARM_UP


def test_speeds_are_of_the_turns_in_which_auxk_can_be_at_work():
    text = table({"toy": result(each=10, rounds=5, dead_after=25)})
    assert "medians of the last 2 turns, in which a latent can have been silent for 25 steps" in text
    assert "| snce | 20 | 10 | 3.000 | 2.000 | 3.00 | 5 | 0.5000 | 25.0% |" in text
    now, earlier = text.split("In the earlier turns: ")
    assert "The encoder's product alone, bfloat16: 1.000 CPU s, 4.000 s by the clock." in now
    assert "snce's step takes 3.00 (3.00 to 3.00) times the product's CPU time" in now
    assert "and by the clock 1.50 (1.50 to 1.50) times as long" in now
    assert "plain PyTorch, with 2.00 (2.00 to 2.00) times snce's CPU time" in now
    assert "snce's step takes 2.00 (2.00 to 2.00) times the product's" in earlier
    assert "plain PyTorch, with 3.00 (3.00 to 3.00) times snce's CPU time" in earlier


def test_a_run_too_short_for_dead_latents_is_told_by_all_its_turns():
    text = table({"toy": result(each=10, rounds=5, dead_after=50)})
    assert "medians of the last 5 turns, all there are" in text
    assert "earlier turns" not in text
    assert "| snce | 30 | 15 | 2.000 | 2.00 | 5 | 0.5000 | 25.0% |" in text


def test_results_of_other_numbers_of_threads_are_kept(tmp_path, monkeypatch):
    for home in set(sae_training.THEIRS.values()):
        (tmp_path / "peers" / home / "bin").mkdir(parents=True)
        (tmp_path / "peers" / home / "bin" / "python").touch()
    told = []
    monkeypatch.setattr(sae_training, "compare", lambda *given: told.append(given[2]) or result(10, 5, 25))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    for threads in ("1", "2"):
        options = ["--out", str(tmp_path / "out"), "--peers", str(tmp_path / "peers"), "--threads", threads]
        monkeypatch.setattr(sys, "argv", ["sae_training", *options])
        sae_training.main()
    assert told == [1, 1, 2, 2]
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {name: list(its) for name, its in stored.items()} == {
        "threads-1": ["emblem", "synthetic"],
        "threads-2": ["emblem", "synthetic"],
    }
    assert "2 threads" in (tmp_path / "out" / "threads-2.md").read_text()
    assert (tmp_path / "out" / "threads-1.png").exists()
