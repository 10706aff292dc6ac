"""SAFREE: its projections, the tokens that it edits, and the steps that read them."""

from __future__ import annotations

import pytest
import torch

from snce.bench.methods.denoise import encode, tokenize
from snce.bench.methods.hooks import around_denoiser
from snce.bench.methods.safree import SAFREE, SAFREEErasure, basis, projected, safe_embedding
from snce.errors import SnceError
from tests.bench.methods.tiny import CAT, DOG, PROMPTS, SAFREE_ALWAYS
from tests.examples import picture, same_bits


def test_projections_are_idempotent_and_keep_their_span():
    rows = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    rows[4] = rows[0] + rows[1]  # rank 4
    onto = basis(rows)
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(1))
    once = projected(x, onto)
    away = x - once
    assert onto.shape == (4, 16)
    assert torch.allclose(projected(once, onto), once, atol=1e-5)
    assert torch.allclose(projected(rows, onto), rows, atol=1e-5)
    assert torch.allclose(projected(away, onto), torch.zeros_like(x), atol=1e-5)


def test_a_prompt_orthogonal_to_the_concept_keeps_its_embedding():
    rng = torch.Generator().manual_seed(0)
    space = torch.linalg.qr(torch.randn(16, 16, generator=rng)).Q
    concept, masked = space[:2], torch.randn(3, 5, generator=rng) @ space[4:9]
    embedding = torch.randn(8, 3, generator=rng) @ masked  # in the prompt's span, as P_I wants it
    safe = safe_embedding(SAFREE(), embedding, masked, concept)
    assert torch.allclose(safe.embedding, embedding, atol=1e-4)
    assert safe.steps == 0


def test_a_toxic_token_leaves_the_span_of_the_concept():
    rng = torch.Generator().manual_seed(0)
    space = torch.linalg.qr(torch.randn(16, 16, generator=rng)).Q
    concept = space[:1]
    masked = torch.stack([space[3], 0.1 * space[4] + space[0], 0.1 * space[5] + space[0]])  # word 0 is the concept
    embedding = torch.randn(8, 16, generator=rng)
    safe = safe_embedding(SAFREE(), embedding, masked, concept)
    assert (safe.embedding != embedding).any(1).tolist() == [False, True] + [False] * 6
    assert torch.allclose(safe.embedding[1] @ concept.T, torch.zeros(1), atol=1e-5)


@pytest.mark.parametrize("limit", [1, 3])
@torch.no_grad()
def test_the_edit_stops_after_the_computed_steps(pipe, limit):
    seen = []

    def record(call, sample, t, embeddings):
        seen.append(embeddings.chunk(2)[1])
        return call(sample, t, embeddings)

    erasure = SAFREE(alpha=-1.0, midpoint=-100.0, limit=limit).prepare(pipe, [CAT])
    with around_denoiser(pipe, record), erasure.attached(pipe):
        pipe(PROMPTS, num_inference_steps=5, output_type="latent")
    prompts = encode(pipe, PROMPTS)
    tokens = tokenize(pipe, PROMPTS)
    safe = [erasure.edit(pipe, e, k) for e, k in zip(prompts, tokens, strict=True)]
    assert [s.steps for s in safe] == [limit, limit]
    for step, embeddings in enumerate(seen):
        expected = torch.stack([s.embedding for s in safe]) if step < limit else prompts
        assert torch.allclose(embeddings, expected, atol=1e-5)
        assert same_bits(embeddings, prompts) == (step >= limit)


def test_a_filter_that_lets_no_step_through_gives_the_bytes_of_the_base_model(pipe):
    base = picture(pipe, PROMPTS)
    with SAFREE(midpoint=100.0).prepare(pipe, [CAT]).attached(pipe):
        assert picture(pipe, PROMPTS) == base


def test_prompts_may_be_encoded_long_before_they_are_drawn(pipe):
    with SAFREE_ALWAYS.prepare(pipe, [CAT]).attached(pipe), torch.no_grad():
        encoded = [pipe.encode_prompt(p, "cpu", 1, True) for p in PROMPTS]
        later = [picture(pipe, None, prompt_embeds=p, negative_prompt_embeds=n) for p, n in encoded]
        assert later == [picture(pipe, p) for p in PROMPTS]
        assert picture(pipe, "a hat", num_images_per_prompt=2)  # its tokens are known for both


def test_embeddings_of_unknown_tokens_are_refused(pipe):
    unknown = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(0))
    with (
        SAFREE().prepare(pipe, [CAT]).attached(pipe),
        pytest.raises(SnceError, match="needs the tokens of a prompt"),
    ):
        picture(pipe, None, prompt_embeds=unknown, negative_prompt_embeds=unknown)


def test_an_empty_prompt_has_no_toxic_tokens(pipe):
    base = picture(pipe, "")
    with SAFREE_ALWAYS.prepare(pipe, [CAT]).attached(pipe):
        assert picture(pipe, "") == base


def test_safree_ships_one_direction_per_concept(pipe):
    erasure: SAFREEErasure = SAFREE().prepare(pipe, [CAT, DOG])
    assert erasure.concept.shape == (2, 32)
    assert erasure.nbytes == 2 * 32 * 4
