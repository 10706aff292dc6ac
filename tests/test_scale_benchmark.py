"""The benchmarks of docs/scale.md and of the optimiser's share at toy size: their tables hold what was measured."""

from __future__ import annotations

from dataclasses import replace

import torch
from benchmarks import find, optimiser_share, scale
from benchmarks.optimiser_share import Spent
from benchmarks.scale import Cost, Step, table, table_of_steps

from snce.sae.config import SAEConfig, TrainConfig


def test_a_table_multiplies_what_it_says_and_no_more_than_is_paid_for():
    rows = table([Cost("encoding", 0.1), Cost("metrics", 0.1, "s", 50_000), Cost("disk", 2e3, "B")]).splitlines()[2:]
    assert rows == [
        "| encoding | 100 ms | 1.16 days | 116 days |",
        "| metrics | 100 ms | 1.39 h | 1.39 h |",
        "| disk | 2 KB | 2 GB | 200 GB |",
    ]


def test_a_table_of_steps_has_those_of_a_whole_training():
    assert TrainConfig().steps == 4800
    rows = table_of_steps([Step(SAEConfig(8, 24, 4), 0.1, 0.2)], 2e-9).splitlines()
    assert rows[2] == (
        "| a training step on 64 prompts: prompt code, 24 latents, k = 4 | 100 ms | 200 ms | 8 min to 16 min |"
    )
    assert rows[3] == "| fingerprint of a model, per billion parameters | 2 s | | |"


def test_training_and_finding_are_measured_on_what_is_in_a_file(tmp_path, monkeypatch):
    for name, value in {"POSITIONS": 24, "WIDTH": 16, "LATENTS": 64, "K": 4}.items():
        monkeypatch.setattr(find, name, value)
    monkeypatch.setattr(scale, "CLIP", (24, 16))
    find.make_embeddings(tmp_path, 130, 0)
    data, config = find.read_embeddings(tmp_path, 130), SAEConfig(16, 64, 4)
    costs = {cost.what: cost for cost in scale.of_sae(data, config)}
    assert costs["memory of finding, counted"].each == 12 * 4 + 8 + 64
    assert all(cost.each > 0 for cost in costs.values())
    assert [cost.most for cost in costs.values()] == [None, 50_000, 50_000, None, None]
    for step_of in (config, replace(config, support="position")):
        step = scale.of_step(data, step_of, rounds=2)
        assert min(step.plain, step.aux) > 0


def test_the_optimisers_share_is_that_of_its_own_step_and_of_the_rows_with_a_gradient():
    x = torch.randn(600, 16, generator=torch.Generator().manual_seed(0))
    training = TrainConfig(6, batch=64, held_out=0)
    few = optimiser_share.measure(x, SAEConfig.plain(16, latents=512, k=1), training, counted=3)
    assert 0 < few.adam < few.step
    assert 0 < few.touched <= 64 / 512  # a batch of 64 rows has so many active latents at most
    many = optimiser_share.measure(x, SAEConfig.plain(16, latents=8, k=4), training, counted=3)
    assert many.touched > 0.9


def test_what_a_sparse_optimiser_would_save_is_its_share_of_the_rows_that_are_not_touched():
    line = optimiser_share.line(SAEConfig(16, 512, 4), Spent(0.1, 0.02, 0.75))
    assert "a step 100 CPU ms, Adam 20.0 of these (20.0%); a step touches 75% of the rows" in line
    assert line.endswith("it would take 5.0% less")
