"""CLIP score and FID, against values worked out by hand or by the precision suite's own formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import CLIPModel, CLIPProcessor

from snce.bench import measures
from snce.bench.suites.clip import load_clip
from snce.bench.suites.scores import Inception, describe_text_scores, text_scores
from snce.errors import SnceError
from tests.bench.suites.tiny import Corners, noise, without

pytest.importorskip("torchmetrics")
TEXTS = ("a red cat", "tea", "owl", "rain")


def test_the_clip_score_is_a_hundred_cosines_of_each_picture_with_its_own_text(clip):
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)
    pictures, wanted = [noise(i, 20) for i in range(4)], []
    for picture, text in zip(pictures, TEXTS, strict=True):
        with torch.no_grad():
            found = model(**processor(text=[text], images=[picture], return_tensors="pt"))
        wanted.append(100 * float((found.image_embeds * found.text_embeds).sum()))
    assert max(wanted) > 0 > min(wanted)  # both sides of the clamp
    scores = text_scores(load_clip(clip), pictures, TEXTS)
    assert scores == pytest.approx([max(0, score) for score in wanted], abs=1e-3)


def test_a_long_text_is_cut_before_its_end_of_text(clip):
    found = load_clip(clip)
    tokens = found.tokens(["a text that is far longer than sixteen tokens", "tea"])
    assert tokens["input_ids"].shape == (2, 16)
    assert (tokens["input_ids"] == found.processor.tokenizer.eos_token_id).any(1).all()


def test_the_record_names_library_and_model(clip):
    assert describe_text_scores(load_clip(clip))["model"] == clip
    assert describe_text_scores(load_clip(clip))["library"].startswith("torchmetrics 1")


def test_fid_is_the_frechet_distance_of_the_features():
    inception = Inception(Corners())
    old, new = (inception.features([noise(i) for i in range(start, start + 30)]) for start in (0, 20))
    rows = {"features_before": old, "features_after": new, "kind": np.array(["other"] * 30)}
    assert inception.distance(old, new) == pytest.approx(measures.frechet(rows), rel=1e-3)
    assert inception.distance(old, old) == pytest.approx(0, abs=1e-4)
    assert np.isnan(inception.distance(old, new[:1]))


def test_real_pictures_of_a_folder_count_as_if_they_were_given(tmp_path):
    inception, folder = Inception(Corners()), tmp_path / "real"
    (folder / "deeper").mkdir(parents=True)
    for i in range(6):
        noise(i, 8 + i).save(folder / "deeper" / f"{i}.png")  # real pictures have all sizes
    given = inception.features([noise(i, 8 + i) for i in range(6)])
    drawn = inception.features([noise(i) for i in range(10, 20)])
    statistics = inception.reference(folder, tmp_path / "cache.safetensors")
    assert inception.distance(statistics, drawn) == pytest.approx(inception.distance(given, drawn), rel=1e-4)


def test_statistics_of_real_pictures_are_kept_until_the_folder_changes(tmp_path, monkeypatch):
    inception, cache = Inception(Corners()), tmp_path / "cache.safetensors"
    (tmp_path / "real").mkdir()
    for i in range(3):
        noise(i).save(tmp_path / "real" / f"{i}.png")
    first = inception.reference(tmp_path / "real", cache)
    with monkeypatch.context() as patch:
        patch.setattr(inception, "features", None)
        again = inception.reference(tmp_path / "real", cache)
    assert all(torch.equal(first[name], again[name]) for name in first)
    noise(9, 20).save(tmp_path / "real" / "0.png")  # as many pictures, and one of them another
    replaced = inception.reference(tmp_path / "real", cache)
    assert not torch.equal(replaced["real_features_sum"], first["real_features_sum"])
    noise(3).save(tmp_path / "real" / "3.png")
    assert int(inception.reference(tmp_path / "real", cache)["real_features_num_samples"]) == 4


def test_a_folder_without_pictures_or_with_a_damaged_one_is_named(tmp_path):
    inception, cache = Inception(Corners()), tmp_path / "cache.safetensors"
    with pytest.raises(SnceError, match=r"--reference .*: 0 pictures"):
        inception.reference(tmp_path / "none", cache)
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(SnceError, match=r"0\.png is no picture"):
        inception.reference(tmp_path, cache)
    assert not cache.exists()


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch, clip):
    found = load_clip(clip)
    without(monkeypatch, "torchmetrics")
    with pytest.raises(SnceError, match=r"pip install 'snce\[suites\]'"):
        text_scores(found, [noise(0)], ["tea"])
    with pytest.raises(SnceError, match=r"pip install 'snce\[suites\]'"):
        Inception(Corners())


def test_fid_without_inceptions_weights_names_the_extra(monkeypatch):
    monkeypatch.setattr("torchmetrics.image.fid._TORCH_FIDELITY_AVAILABLE", False)
    with pytest.raises(SnceError, match=r"torch-fidelity .* pip install 'snce\[suites\]'"):
        Inception()


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_what_is_no_clip_model_is_one_clear_line(content, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(SnceError, match="cannot load the CLIP model") as caught:
        load_clip(str(tmp_path))
    assert "\n" not in str(caught.value)
