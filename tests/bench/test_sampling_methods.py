"""Methods that change how pictures are sampled: negative prompt, SLD, SAFREE."""

from __future__ import annotations

import threading

import pytest
import torch
from diffusers import DDIMScheduler

from snce.bench.methods.denoise import encode, epsilon_scale, step_index, tokenize
from snce.bench.methods.hooks import around_denoiser
from snce.bench.methods.negative_prompt import NegativePrompt
from snce.bench.methods.safree import SAFREE, SAFREEErasure, basis, projected, safe_embedding
from snce.bench.methods.sld import SLD
from snce.errors import SnceError
from snce.text.prompts import Concept
from tests.examples import picture, same_bits, state, tiny_pipeline

CAT = Concept("cat", ("a red cat", "cats"), ("two dogs", "green tea", "a hat", "blue sky"))
DOG = Concept("dog", ("two dogs", "a dog"), ("a red cat", "green tea"))
PROMPTS = ["a red cat", "green tea"]

SLD_AT_ONCE = SLD(0, 5000.0, 1.0, 0.5, 0.7)
SAFREE_ALWAYS = SAFREE(midpoint=-100.0)
METHODS = [NegativePrompt(), SLD_AT_ONCE, SAFREE_ALWAYS]
ids = [m.name for m in METHODS]


@pytest.fixture
def velocity():
    """A pipeline that predicts v."""
    return predicting(tiny_pipeline(0), "v_prediction")


def predicting(pipe, prediction_type):
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type=prediction_type)
    return pipe


def drawn_from_embeddings(pipe, prompts, seed=0, **options):
    """As the benchmark draws: prompts are encoded first."""
    with torch.no_grad():
        prompt, negative = pipe.encode_prompt(prompts, "cpu", 1, True)
    return picture(pipe, None, seed, prompt_embeds=prompt, negative_prompt_embeds=negative, **options)


def weights(pipe):
    return {f"{part}.{k}": v.clone() for part in ("unet", "text_encoder", "vae")
            for k, v in getattr(pipe, part).state_dict().items()}  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_it_changes_the_picture_of_the_concept(pipe, method):
    with method.prepare(pipe, [CAT]).attached(pipe):
        edited = picture(pipe, "a red cat")
    assert edited != picture(pipe, "a red cat")


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_encoding_prompts_first_gives_the_same_pictures(pipe, method):
    with method.prepare(pipe, [CAT]).attached(pipe):
        assert drawn_from_embeddings(pipe, PROMPTS) == picture(pipe, PROMPTS)


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_a_picture_does_not_depend_on_what_was_drawn_before(pipe, method):
    with method.prepare(pipe, [CAT]).attached(pipe):
        first = picture(pipe, PROMPTS)
        picture(pipe, ["blue sky"])
        assert picture(pipe, PROMPTS) == first


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_a_picture_does_not_depend_on_a_call_that_broke_off(pipe, method):
    def stop(*_):
        raise KeyboardInterrupt

    with method.prepare(pipe, [CAT]).attached(pipe):
        first = picture(pipe, PROMPTS)
        with pytest.raises(KeyboardInterrupt):
            pipe("a hat", num_inference_steps=4, callback_on_step_end=stop)
        assert picture(pipe, PROMPTS) == first


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_afterwards_everything_is_as_before(pipe, method):
    base = picture(pipe, PROMPTS)
    before, bits = state(pipe), weights(pipe)
    erasure = method.prepare(pipe, [CAT])

    def fail():
        with erasure.attached(pipe):
            picture(pipe, PROMPTS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state(pipe) == before
    assert all(same_bits(v, bits[k]) for k, v in weights(pipe).items())
    assert picture(pipe, PROMPTS) == base


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_pipelines_of_another_kind_are_refused(pipe, method):
    with pytest.raises(SnceError, match="prediction type 'sample'"):
        method.prepare(predicting(pipe, "sample"), [CAT])


@pytest.mark.parametrize("method", [NegativePrompt(), SLD_AT_ONCE, SAFREE(midpoint=0.0)], ids=ids)
@torch.no_grad()
def test_emblem_draws_something_else_for_the_concept(emblem, method):
    from snce.emblem.concepts import load_concept

    before = state(emblem)
    erasure = method.prepare(emblem, [load_concept("cigarette")])

    def draw():
        rng = [torch.Generator().manual_seed(i) for i in range(2)]
        with torch.autocast("cpu", torch.bfloat16):
            prompt, negative = emblem.encode_prompt(["a cigarette", "a pink hat"], "cpu", 1, True)
            return emblem(prompt_embeds=prompt, negative_prompt_embeds=negative, guidance_scale=3.0,
                          num_inference_steps=4, generator=rng, output_type="latent").images  # fmt: skip

    base = draw()
    with erasure.attached(emblem):
        edited = draw()
    assert torch.isfinite(edited).all()
    assert not same_bits(edited[0], base[0])
    assert same_bits(draw(), base)
    assert {k: v for k, v in state(emblem)[0].items() if not k.startswith("_")} == {
        k: v for k, v in before[0].items() if not k.startswith("_")
    }


# -- the prediction types ----------------------------------------------------------------------------------------------


def test_differences_of_v_become_differences_of_epsilon(velocity):
    rng = torch.Generator().manual_seed(0)
    x0, other_x0, e = (torch.randn(2, 4, 4, 4, generator=rng) for _ in range(3))
    t = torch.tensor([100, 900])
    alpha = velocity.scheduler.alphas_cumprod[t].sqrt().reshape(-1, 1, 1, 1)
    sigma = (1 - alpha.square()).sqrt()
    other_e = (alpha * x0 + sigma * e - alpha * other_x0) / sigma  # the same x_t
    v, other_v = velocity.scheduler.get_velocity(x0, e, t), velocity.scheduler.get_velocity(other_x0, other_e, t)
    assert torch.allclose(epsilon_scale(velocity.scheduler, t, x0) * (v - other_v), e - other_e, atol=1e-5)


def test_the_step_is_read_from_the_schedule(pipe):
    pipe.scheduler.set_timesteps(5)
    assert step_index(pipe.scheduler, pipe.scheduler.timesteps).tolist() == [0, 1, 2, 3, 4]
    assert step_index(pipe.scheduler, 999).tolist() == [0]


# -- negative prompt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_it_gives_the_bytes_of_a_negative_prompt(pipe, kind):
    predicting(pipe, kind)
    with NegativePrompt().prepare(pipe, [CAT, DOG]).attached(pipe):
        one, many = picture(pipe, "green tea"), picture(pipe, PROMPTS)
        own = picture(pipe, "green tea", negative_prompt="rain")
        own_many = picture(pipe, PROMPTS, negative_prompt=["rain", ""])
    assert one == picture(pipe, "green tea", negative_prompt="cat, dog")
    assert many == picture(pipe, PROMPTS, negative_prompt=["cat, dog"] * 2)
    assert own == picture(pipe, "green tea", negative_prompt="rain, cat, dog")
    assert own_many == picture(pipe, PROMPTS, negative_prompt=["rain, cat, dog", "cat, dog"])


def test_without_guidance_a_negative_prompt_does_nothing(pipe):
    base = picture(pipe, PROMPTS, guidance_scale=1.0)
    with NegativePrompt().prepare(pipe, [CAT]).attached(pipe):
        assert picture(pipe, PROMPTS, guidance_scale=1.0) == base


def test_a_name_is_all_that_is_shipped(pipe):
    assert NegativePrompt().prepare(pipe, [CAT, DOG]).nbytes == len("cat, dog")
    assert SLD().prepare(pipe, [CAT, DOG]).nbytes == len("cat, dog")


# -- SLD ---------------------------------------------------------------------------------------------------------------


def test_sld_has_the_published_settings():
    assert SLD() == SLD.medium() == SLD(10, 1000, 0.01, 0.3, 0.4)
    assert SLD.strong() == SLD(7, 2000, 0.025, 0.5, 0.7)
    assert SLD.max() == SLD(0, 5000, 1.0, 0.5, 0.7)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("settings", [SLD(0, 0.0), SLD(2, 5000.0, 1.0)], ids=["scale 0", "in the warm-up"])
def test_sld_without_effect_gives_the_bytes_of_the_base_model(pipe, kind, settings):
    predicting(pipe, kind)
    base = picture(pipe, PROMPTS)  # two steps
    with settings.prepare(pipe, [CAT]).attached(pipe):
        assert picture(pipe, PROMPTS) == base


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_two_steps_of_sld_are_the_formula_in_epsilon(pipe, kind):
    predicting(pipe, kind)
    pipe.scheduler.set_timesteps(4)
    settings = SLD(1, 300.0, 0.001, 0.5, 0.7)
    prompt, null, concept = encode(pipe, ["a hat"]), encode(pipe, [""]), encode(pipe, ["cat"])
    rng = torch.Generator().manual_seed(0)
    nu = 0
    erasure = settings.prepare(pipe, [CAT])
    with erasure.attached(pipe):
        for step in (0, 2):
            t = pipe.scheduler.timesteps[step]
            x = torch.randn(1, 4, 4, 4, generator=rng)
            got = pipe.unet(torch.cat([x, x]), t, torch.cat([null, prompt])).sample
            base = pipe.unet.__class__.forward(
                pipe.unet, torch.cat([x, x, x]), t, torch.cat([null, prompt, concept])
            ).sample
            alpha = pipe.scheduler.alphas_cumprod[t].sqrt()
            sigma = (1 - alpha**2).sqrt()
            u, c, s = (alpha * base + sigma * x if kind == "v_prediction" else base).chunk(3)
            mu = ((c - s).abs() * settings.scale).clamp(max=1)
            mu = torch.where(c - s >= settings.threshold, 0, mu)
            gamma = mu * (s - u) + settings.momentum_scale * nu
            nu = settings.momentum_beta * nu + (1 - settings.momentum_beta) * gamma
            expected = c - gamma if step >= settings.warmup else c
            if kind == "v_prediction":
                expected = (expected - sigma * x) / alpha
            assert 0 < mu.count_nonzero() < mu.numel()
            assert torch.allclose(got[1:], expected, atol=1e-5)
            assert torch.allclose(got[:1], base[:1], atol=1e-6)


@torch.no_grad()
def test_the_momentum_of_one_thread_is_not_seen_by_another(pipe):
    pipe.scheduler.set_timesteps(4)
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    embeddings = torch.cat([encode(pipe, [""]), encode(pipe, ["a hat"])])

    def call(step):
        with torch.no_grad():
            return pipe.unet(torch.cat([x, x]), pipe.scheduler.timesteps[step], embeddings).sample

    erasure = SLD_AT_ONCE.prepare(pipe, [CAT])
    with erasure.attached(pipe):
        fresh = call(1)
    with erasure.attached(pipe):
        call(0)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(call(1)))
        thread.start()
        thread.join()
        assert same_bits(seen[0], fresh)
        assert not same_bits(call(1), fresh)


@torch.no_grad()
def test_an_unguided_call_is_guided_away_from_the_concept_too(pipe):
    pipe.scheduler.set_timesteps(4)
    t = pipe.scheduler.timesteps[0]
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    null, prompt = encode(pipe, [""]), encode(pipe, ["a hat"])
    erasure = SLD_AT_ONCE.prepare(pipe, [CAT])
    with erasure.attached(pipe):
        both = pipe.unet(torch.cat([x, x]), t, torch.cat([null, prompt])).sample
    with erasure.attached(pipe):
        alone = pipe.unet(x, t, prompt, return_dict=False)[0]
    assert torch.allclose(alone, both[1:], atol=1e-5)


def test_gradients_reach_the_prompt_through_sld(pipe):
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    prompt = encode(pipe, ["a hat"]).requires_grad_()
    with SLD_AT_ONCE.prepare(pipe, [CAT]).attached(pipe):
        pipe.unet(x, 500, prompt).sample.square().sum().backward()
    assert prompt.grad is not None
    assert prompt.grad.abs().max() > 0


# -- SAFREE ------------------------------------------------------------------------------------------------------------


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
