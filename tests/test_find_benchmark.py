"""The benchmark of finding neurons at toy size: the peers' ways are those of the methods of `snce bench`."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from benchmarks import find
from benchmarks.find_peers import itd_features, saeuron_scores

from snce.bench.methods.itd import features
from snce.bench.methods.saeuron import scores
from snce.text.harvest import Embeddings

TARGET, NEUTRAL = range(40), range(40, 130)


linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture
def small(monkeypatch):
    for name, value in {"POSITIONS": 24, "WIDTH": 128, "LATENTS": 64, "K": 4, "TARGETS": 5}.items():
        monkeypatch.setattr(find, name, value)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Embeddings:
    for name, value in {"POSITIONS": 24, "WIDTH": 192, "LATENTS": 256, "K": 4, "TARGETS": 40}.items():
        monkeypatch.setattr(find, name, value)
    find.make_embeddings(tmp_path, 130, 1)
    return find.read_embeddings(tmp_path, 130)


def part(data: Embeddings, of: range) -> Embeddings:
    return Embeddings(data.x[list(of)], data.kinds[list(of)])


def test_itd_chooses_what_its_method_in_the_benchmark_does(data):
    sae = find.make_sae("position")
    chosen = itd_features(sae, data, TARGET, NEUTRAL, top=4)
    told = [features(sae, part(data, of), 4) for of in (TARGET, NEUTRAL)]
    assert torch.equal(chosen, told[0] & ~told[1])
    assert 0 < int(chosen.sum()) < 256


def test_saeuron_scores_as_its_method_in_the_benchmark_does(data):
    sae = find.make_sae("position")
    means = [
        sae.encode(its.x.float(), its.kinds).activations.mean((0, 1))[None]
        for its in (part(data, TARGET), part(data, NEUTRAL))
    ]
    torch.testing.assert_close(saeuron_scores(sae, data, TARGET, NEUTRAL), scores(*means)[0], rtol=1e-4, atol=1e-7)


def test_prompt_and_position_code_have_the_same_weights(data):
    prompt, position = find.make_sae(), find.make_sae("position")
    assert position.config == replace(prompt.config, support="position")
    assert torch.equal(prompt.W_enc, position.W_enc)


@linux
def test_each_way_is_told_with_its_speed_its_memory_and_what_it_found(small, tmp_path):
    find.make_embeddings(tmp_path, 100, 12)
    memory = find.measure_memory(tmp_path, 100, 12)
    assert memory["found"] == memory["concepts"] == 12
    ways = {way: find.measure_way(tmp_path, 100, way) for way in find.WAYS}
    assert {ways[way]["known"] for way in ("search", "position", "saeuron")} == {"place 1"}
    timed = find.measure_time(tmp_path, 50, rounds=2)
    around = [find.measure_product(tmp_path, 50) for _ in range(2)]
    result = {"prompts": 100, "time": timed, "ways": ways, "memory": memory, "around": around, "machine": "this one"}
    text = "\n".join(find.rows(result))
    assert "| 100 | 0.00 GB | 12 | 12 of 12 |" in text
    assert "| 12 concepts at once |" in text
    assert "50 prompts, medians of 2 turns" in text


def test_the_table_has_each_way_and_compares_the_one_run_with_the_product_before_and_after_it():
    seconds = {"product": [1.0, 1.0], "bfloat16": [0.5, 0.5]} | {way: [1.25, 1.25] for way in find.WAYS}
    memory = {"prompts": 100, "concepts": 7, "found": 7, "cpu_seconds": 4.0, "peak_bytes": 0, "process_bytes": 0}
    memory |= {"formula_bytes": 0, "file_bytes": 0}
    ways = {way: {"known": "place 1", "peak_bytes": 7e6} for way in find.WAYS} | {
        "itd": {"known": "one of 5", "peak_bytes": 8e6}
    }
    told = {"prompts": 100, "time": {"prompts": 50, "rounds": 2, "cpu_seconds": seconds | {"itd": [4.0, 4.0]}}}
    told |= {"ways": ways, "memory": memory, "around": [1.6, 2.4], "machine": "this one"}
    lines = list(find.rows(told))
    assert "| 1 concept | 25.00 | 0.80 (0.80 to 0.80) | place 1 | 7 MB |" in lines
    assert f"| {find.WAYS['itd']} | 80.00 | 0.25 (0.25 to 0.25) | one of 5 | 8 MB |" in lines
    assert "| 7 concepts at once | 40.00 | 1.00 (0.80 to 1.20) | below | below |" in lines


def test_every_prompt_that_is_no_target_is_a_neutral_one(small):
    for target, neutral in find.concepts_among(40, 7).values():
        assert sorted([*target, *neutral.tolist()]) == list(range(40))
    assert len(find.concepts_among(40, 7)) == 7
    assert len(find.concepts_among(12, 7)) == 1  # of the others, no target is among these


def test_a_latent_that_was_not_found_is_said_to_be_none():
    assert find.place_of_known("itd", torch.tensor([False, True, True])) == "none of 2"
    assert find.place_of_known("saeuron", torch.tensor([0.1, 0.3, 0.2])) == "place 3"
    assert find.place_of_known("search", []) == "not in the first 0"
