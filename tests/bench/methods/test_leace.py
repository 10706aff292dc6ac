"""LEACE: afterwards no linear probe finds the concepts, and their means coincide."""

from __future__ import annotations

import pytest
import torch

from snce.bench.methods.leace import Leace, fit
from snce.bench.methods.prompts import neutral_prompts
from snce.text.harvest import Embeddings
from snce.text.positions import BEGIN
from tests.bench.methods.tiny import QQ, ZZZ


def samples(tower, sets, erasure=None):
    """Positions but begin-of-text, [n, d], and one label per concept, [n, concepts], in float64."""
    rows, labels = [], []
    for i, prompts in enumerate(sets):
        x, kinds = tower.encode(prompts), tower.kinds(tower.tokenize(prompts))
        chosen = (x if erasure is None else erasure.edit(x, kinds))[kinds != BEGIN].double()
        rows.append(chosen)
        labels.append(torch.eye(len(sets), dtype=torch.float64)[i, :-1].expand(len(chosen), -1))
    return torch.cat(rows), torch.cat(labels)


def explained(x, z):
    """Share of each label's variance that the best linear probe explains."""
    with_bias = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    # what was erased has no spread left but rounding, from which a probe without a cut-off would read the label
    left = z - with_bias @ torch.linalg.lstsq(with_bias, z, rcond=1e-4, driver="gelsd").solution
    return 1 - left.var(0) / z.var(0)


@pytest.mark.parametrize("concepts", [[ZZZ], [ZZZ, QQ]], ids=["one concept", "two concepts"])
def test_after_leace_no_linear_probe_finds_the_concepts(concepts, shared_pipe, tower):
    pytest.importorskip("concept_erasure")
    erasure = Leace().prepare(shared_pipe, concepts)
    sets = [*(list(c.targets) for c in concepts), neutral_prompts(concepts)]
    x, z = samples(tower, sets)
    erased, _ = samples(tower, sets, erasure)
    assert (explained(x, z) > 0.05).all()
    assert (explained(erased, z) < 1e-6).all()
    spread = x.std()
    for label in z.T.bool():
        before = (x[label].mean(0) - x[~label].mean(0)).norm()
        after = (erased[label].mean(0) - erased[~label].mean(0)).norm()
        assert before > 0.1 * spread
        assert after < 1e-4 * before
    assert torch.allclose(erased.mean(0), x.mean(0), atol=1e-5)
    assert torch.linalg.matrix_rank(x - erased, rtol=1e-4) == len(concepts)


def test_leace_erases_rare_concepts_and_such_that_the_bound_on_the_trace_would_keep():
    pytest.importorskip("concept_erasure")
    rng = torch.Generator().manual_seed(0)
    stretch = torch.logspace(-2, 1, 6)
    mixed = torch.randn(6, 6, generator=rng)
    sets = []
    for n, shift in ((3, 0.05), (400, 0.0)):
        x = torch.randn(n, 7, 6, generator=rng) * stretch @ mixed + shift
        sets.append(Embeddings(x, torch.ones(n, 7, dtype=torch.uint8)))
    erasure = fit(sets)
    target, neutral = (erasure.edit(s.x, s.kinds).double().mean((0, 1)) for s in sets)
    assert (target - neutral).norm() < 1e-3 * (sets[0].x.mean((0, 1)) - sets[1].x.mean((0, 1))).norm()
