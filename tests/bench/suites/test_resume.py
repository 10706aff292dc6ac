"""Runs of a suite that stop, go on, are shared out or grow; results of another run are never mixed in."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from snce.bench.methods.uce import UCE
from snce.bench.suites import judges
from snce.bench.suites.lineup import ENTRIES, Entry
from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from snce.pipelines import load_pipeline
from tests.bench.suites.tiny import METHODS, results, run, same

pytest.importorskip("pyarrow")
pytest.importorskip("torchmetrics")
pytest.importorskip("nudenet")


def test_a_run_that_was_interrupted_goes_on_to_the_same_rows(i2p, seen, monkeypatch, tmp_path):
    run(i2p)
    whole, _ = results(i2p)
    again = replace(i2p, out=tmp_path / "again")
    original, calls = judges.Panel.look, []

    def interrupted(self, images, prompts):
        calls.append(len(images))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(self, images, prompts)

    with monkeypatch.context() as patch:
        patch.setattr(judges.Panel, "look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(again)
    parts = {p: p.stat().st_mtime_ns for p in (again.out / "parts").iterdir()}
    assert len(parts) == 5
    (again.out / "pictures" / "none" / "000001.png").write_bytes(b"broken")  # the base picture is drawn again
    run(again)
    assert same(results(again)[0], whole)
    assert all(p.stat().st_mtime_ns == time for p, time in parts.items())


def test_a_finished_run_draws_nothing_more(i2p, seen, monkeypatch):
    run(i2p)
    before = (i2p.out / "results.parquet").read_bytes()
    monkeypatch.setattr(judges.Panel, "look", None)
    run(i2p)
    assert (i2p.out / "results.parquet").read_bytes() == before


def test_shards_together_are_one_run(i2p, seen, tmp_path):
    run(i2p)
    whole, _ = results(i2p)
    shared = replace(i2p, out=tmp_path / "shared")
    run(replace(shared, shard="2/2"))
    _, methods = results(shared)
    assert methods["UCE"]["pictures"] == 2
    assert not methods["UCE"]["complete"]
    assert "2 of 5" in (shared.out / "table.md").read_text()
    run(replace(shared, shard="1/2"))
    assert same(results(shared)[0], whole)


def test_more_methods_join_a_finished_run(i2p, seen):
    run(replace(i2p, methods="none"))
    run(i2p)
    whole, methods = results(i2p)
    assert tuple(methods) == METHODS
    assert len(whole["seed"]) == 20


def test_results_of_other_settings_are_never_mixed_in(i2p, seen, studio, tmp_path):
    run(replace(i2p, methods="SNCE"))
    for other in ({"threshold": 0.5}, {"steps": 3}, {"limit": 2}, {"batch": 3}, {"model": studio.other_model}):
        with pytest.raises(SnceError, match="results of another run; it differs in"):
            run(replace(i2p, **other, methods="none"))

    def with_another_denoiser(name):
        pipe = load_pipeline(name)
        next(pipe.unet.parameters()).data += 1
        return pipe

    with pytest.raises(SnceError, match="it differs in weights"):  # under the same name
        run(replace(i2p, methods="none"), load=with_another_denoiser)
    ConceptEraser.load(studio.eraser).with_strength(9.0).save(tmp_path / "other.safetensors")
    with pytest.raises(SnceError, match="made with another concept, SAE or eraser"):
        run(replace(i2p, methods="SNCE", eraser=str(tmp_path / "other.safetensors")))
    run(replace(i2p, out=tmp_path / "o", limit=1, methods="none"))
    stray = i2p.out / "parts" / "none__000064.parquet"
    stray.write_bytes((tmp_path / "o" / "parts" / "none__000000.parquet").read_bytes())
    with pytest.raises(SnceError, match=r"none__000064\.parquet is of another run"):
        run(replace(i2p, methods="SNCE"))


def test_parts_of_one_method_with_two_settings_are_never_summed_up(i2p, seen, monkeypatch):
    run(replace(i2p, methods="UCE"))
    part = i2p.out / "parts" / "UCE__000000.parquet"
    part.unlink()
    with monkeypatch.context() as patch:
        patch.setitem(ENTRIES, "UCE", Entry(lambda _: UCE(guide="art", preserve=0)))
        with pytest.raises(SnceError, match=r"UCE__\d+\.parquet was made with another"):
            run(replace(i2p, methods="UCE"))
        other = replace(i2p, methods="UCE", out=i2p.out.with_name("other"))
        run(other)
        shutil.copy(other.out / "parts" / part.name, part)
    with pytest.raises(SnceError, match=r"UCE__\d+\.parquet is of another run"):
        run(replace(i2p, methods="none"))


def test_damaged_results_are_named(i2p, seen):
    run(replace(i2p, methods="none"))
    part = i2p.out / "parts" / "none__000000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:100])
    with pytest.raises(SnceError, match=r"cannot read .*none__000000\.parquet"):
        run(replace(i2p, methods="none"))
    part.write_bytes(whole)
    (i2p.out / "suite.json").write_text("{}")
    with pytest.raises(SnceError, match=r"suite\.json is damaged"):
        run(replace(i2p, methods="none"))
