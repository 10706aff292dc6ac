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


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_each_way_is_told_with_its_speed_its_memory_and_what_it_found(data, tmp_path):
    ways = {way: find.measure_way(tmp_path, 130, way) for way in find.WAYS}
    assert {way: its["known"] for way, its in ways.items() if way != "itd"} == dict.fromkeys(
        ("search", "position", "saeuron"), "place 1"
    )
    timed = {"prompts": 130, "rounds": 1, "cpu_seconds": {name: [0.13] for name in ("product", "bfloat16", *find.WAYS)}}
    timed["cpu_seconds"]["itd"] = [0.52]
    memory = {"prompts": 130, "concepts": 1, "found": 1, "cpu_seconds": 0.26, "peak_bytes": 7e6, "process_bytes": 9e6}
    memory |= {"formula_bytes": 5e6, "file_bytes": 3e9}
    ways["itd"] = {"peak_bytes": 8e6, "known": "one of 5"}
    told = {"prompts": 130, "time": timed, "ways": ways, "memory": memory, "around": [0.13, 0.13], "machine": "toy"}
    lines = list(find.rows(told))
    assert f"| {find.WAYS['itd']} | 4.00 | 0.25 (0.25 to 0.25) | one of 5 | 8 MB |" in lines
    assert "| 1 concepts at once | 2.00 | 0.50 (0.50 to 0.50) | below | below |" in lines


def test_a_latent_that_was_not_found_is_said_to_be_none():
    assert find.place_of_known("itd", torch.tensor([False, True, True])) == "none of 2"
    assert find.place_of_known("saeuron", torch.tensor([0.1, 0.3, 0.2])) == "place 3"
    assert find.place_of_known("search", []) == "not in the first 0"
