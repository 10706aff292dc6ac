"""The judge: a verdict on each picture by itself."""

import pytest
import torch

from snce.emblem.judge import Judge, JudgeNet
from snce.emblem.load import load_judge
from snce.emblem.vocabulary import vocabulary


@pytest.fixture(scope="module")
def pictures():
    """Blots and noise, [12, 3, 64, 64]: the judge must say something about anything."""
    rng = torch.Generator().manual_seed(0)
    blots = torch.nn.functional.interpolate(torch.rand(6, 3, 4, 4, generator=rng), 64, mode="bilinear")
    return torch.cat([blots, torch.rand(6, 3, 64, 64, generator=rng)])


def test_it_knows_the_vocabulary_in_its_order():
    judge = load_judge()
    assert judge.objects == list(vocabulary().objects)
    assert judge.styles == list(vocabulary().styles)


def test_a_verdict_is_probabilities(pictures):
    verdict = load_judge()(pictures)
    assert verdict.objects.shape == (12, len(vocabulary().objects))
    assert verdict.styles.shape == (12, 9)
    for p in (verdict.objects, verdict.styles):
        assert ((p >= 0) & (p <= 1)).all()
        assert not p.requires_grad
    torch.testing.assert_close(verdict.styles.sum(1), torch.ones(12))


def test_a_permutation_of_the_pictures_permutes_the_verdict(pictures):
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    straight, permuted = load_judge()(pictures), load_judge()(pictures[order])
    torch.testing.assert_close(permuted.objects, straight.objects[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(permuted.styles, straight.styles[order], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(permuted.styles, straight.styles, atol=1e-3)


def test_how_the_pictures_are_split_into_batches_does_not_matter(pictures):
    whole, parts = load_judge()(pictures), load_judge()(pictures, batch=5)
    torch.testing.assert_close(parts.objects, whole.objects, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts.styles, whole.styles, atol=1e-5, rtol=1e-4)


def test_judging_leaves_the_judge_as_it_was(pictures):
    judge = load_judge()
    before = {name: value.clone() for name, value in judge.net.state_dict().items()}
    judge(pictures)
    assert all(torch.equal(value, before[name]) for name, value in judge.net.state_dict().items())


def test_a_judge_does_not_train_on_what_it_judges():
    assert not Judge(JudgeNet(3, 2).train(), ["a", "b", "c"], ["s", "t"]).net.training


def test_features_are_one_vector_per_picture(pictures):
    with torch.no_grad():
        features = load_judge().net.features(pictures)
    assert features.ndim == 2
    assert len(features) == 12
    assert torch.isfinite(features).all()
