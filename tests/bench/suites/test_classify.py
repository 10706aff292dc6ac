"""Classification of pictures: by an image classifier and by CLIP."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoImageProcessor, ResNetForImageClassification

from snce.bench.suites.classify import ImageClassifier, ZeroShot, load_classifier
from snce.bench.suites.clip import load_clip
from snce.bench.suites.labels import IMAGENETTE
from snce.errors import SnceError
from snce.text.fingerprint import weights_fingerprint
from tests.bench.suites.tiny import CLASSES, noise, tiny_classifier

PICTURES = [noise(i, 16) for i in range(12)]


def test_the_best_of_all_classes_counts_by_the_suites_name_if_it_has_one(classifier):
    model = ResNetForImageClassification.from_pretrained(classifier).eval()
    pixels = AutoImageProcessor.from_pretrained(classifier)(PICTURES, return_tensors="pt")
    with torch.no_grad():
        best = model(**pixels).logits.argmax(1).tolist()
    names = {0: "cat", 1: "dog", 2: "hat", 3: "tabby", 4: "church, church building"}
    assert len(set(best)) > 1
    assert load_classifier(classifier, ("cat", "dog", "hat"), "object").predict(PICTURES) == [names[i] for i in best]


def test_clip_takes_the_nearest_of_the_descriptions(clip):
    labels = ("cat", "dog", "hat", "tea")
    found = load_classifier(clip, labels, "style")
    assert isinstance(found, ZeroShot)
    model = load_clip(clip)
    texts = model.texts([f"a picture in {label} style" for label in labels])
    best = (model.images(PICTURES) @ texts.T).argmax(1)
    assert found.predict(PICTURES) == [labels[i] for i in best]
    assert "a picture in {} style" in found.describe()["how"]


def test_the_classes_of_imagenette_are_found_among_imagenets(tmp_path):
    """The labels of the published ResNet-50 at Imagenette's places, among them one with four names."""
    names = {0: "tench, Tinca tinca", 1: "English springer, English springer spaniel", 2: "cassette player",
             3: "chain saw, chainsaw", 4: "church, church building", 5: "French horn, horn",
             6: "garbage truck, dustcart", 7: "gas pump, gasoline pump, petrol pump, island dispenser",
             8: "golf ball", 9: "parachute, chute", 10: "horn"}  # fmt: skip
    found = load_classifier(tiny_classifier(tmp_path, names), IMAGENETTE, "object")
    assert isinstance(found, ImageClassifier)
    assert found.own == dict(enumerate(IMAGENETTE))
    assert found.describe()["how"] == "top-1 of 11 classes"


def test_a_class_that_the_classifier_lacks_is_named(classifier):
    with pytest.raises(SnceError, match="has no class 'tench'"):
        load_classifier(classifier, ("cat", "tench"), "object")


@pytest.mark.parametrize("fixture", ["classifier", "clip"])
def test_other_weights_of_the_same_name_are_told_apart(fixture, request):
    found = load_classifier(request.getfixturevalue(fixture), ("cat", "dog", "hat"), "object")
    assert found.describe()["weights"] == weights_fingerprint(getattr(found, "clip", found).model)


@pytest.mark.parametrize("content", [None, "{}", '{"model_type": "bert"}'])
def test_what_is_no_classifier_is_one_clear_line(content, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(SnceError, match="cannot load the classifier") as caught:
        load_classifier(str(tmp_path), tuple(CLASSES.values()), "object")
    assert "\n" not in str(caught.value)
