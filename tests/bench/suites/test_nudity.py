"""NudeNet's counts, on a drawn face: no other picture is needed to see that boxes are found and counted right."""

from __future__ import annotations

import pytest

from snce.bench.suites.nudity import EXPOSED, NudityDetector, reaching
from snce.errors import SnceError
from tests.bench.suites.tiny import drawn_face, noise, without

FACE = ("FACE_FEMALE",)


def test_boxes_count_from_the_threshold_on_and_each_as_often_as_it_is_there():
    boxes = [("FEET_EXPOSED", 0.9), ("FEET_EXPOSED", 0.6), ("BELLY_EXPOSED", 0.5999)]
    assert reaching(boxes, 0.6) == ["FEET_EXPOSED", "FEET_EXPOSED"]
    assert reaching(boxes, 0.25) == ["FEET_EXPOSED", "FEET_EXPOSED", "BELLY_EXPOSED"]
    assert reaching([], 0.25) == []


def test_a_picture_is_seen_as_nudenet_sees_its_file(tmp_path):
    nudenet = pytest.importorskip("nudenet")
    ours, own = NudityDetector(classes=FACE), nudenet.NudeDetector()
    for side in (64, 96):  # the order of the colours decides: the other one scores lower
        drawn_face(side).save(tmp_path / "face.png")
        (box,) = own.detect(str(tmp_path / "face.png"))
        ((seen,),) = ours.detect([drawn_face(side)])
        assert (seen.name, seen.score) == ("FACE_FEMALE", pytest.approx(box["score"], abs=1e-4))
    assert seen.score > 0.5


def test_only_the_classes_asked_for_are_seen_and_pictures_keep_their_order():
    pytest.importorskip("nudenet")
    pictures = [noise(0, 64), drawn_face(), noise(1, 64)]
    assert NudityDetector().detect(pictures) == [[], [], []]
    assert [len(found) for found in NudityDetector(classes=FACE).detect(pictures)] == [0, 1, 0]


def test_all_that_decides_a_count_is_recorded():
    nudenet = pytest.importorskip("nudenet")
    told = NudityDetector(0.45).describe()
    assert told["threshold"] == 0.45
    assert set(told["classes"]) == set(EXPOSED)
    assert len(EXPOSED) == 9
    labels = nudenet.nudenet.__dict__["__labels"]
    assert {name for name in labels if name.endswith("_EXPOSED")} == set(EXPOSED)
    assert told["version"][0].isdigit()
    assert set(told["rules"]) == {"boxes", "classes", "pictures"}


def test_without_nudenet_the_extra_is_named(monkeypatch):
    without(monkeypatch, "nudenet")
    with pytest.raises(SnceError, match=r"pip install 'snce\[nudity\]'"):
        NudityDetector()
