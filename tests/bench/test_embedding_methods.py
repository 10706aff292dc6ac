"""LEACE, Concept Steerers, ItD and SNCE: what each does to a prompt's embedding, and that nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from snce.bench.methods.itd import DeactivationErasure, InterpretThenDeactivate, features
from snce.bench.methods.leace import Leace, fit
from snce.bench.methods.neurons import SNCE, NeuronErasure
from snce.bench.methods.prompts import neutral_prompts
from snce.bench.methods.steerers import ConceptSteerers
from snce.erase.build import STRENGTH, build_eraser
from snce.errors import SnceError
from snce.neurons.find import find_neurons
from snce.sae.model import SAEConfig
from snce.text.harvest import Embeddings, harvest
from snce.text.positions import BEGIN, PADDING, WORD
from snce.text.prompts import Concept
from snce.text.towers import TextTower
from tests.examples import encode, picture, random_sae, same_bits, state, touched
from tests.studio import NEUTRALS, TARGETS

ZZZ = Concept("zzz", tuple(TARGETS), tuple(NEUTRALS))
QQ = Concept("qq", tuple(t.replace("zzz", "qq") for t in TARGETS), tuple(NEUTRALS))
LOUD, SILENT = TARGETS[0], NEUTRALS[0]
PROMPT_CODE = random_sae(0, SAEConfig(32, latents=64, k=6))
PLAIN_CODE = random_sae(1, SAEConfig.plain(32, latents=64, k=6))
CODES = pytest.mark.parametrize("sae", [PROMPT_CODE, PLAIN_CODE], ids=["prompt", "position"])

NAMES = ("leace", "steerers", "itd", "snce")


def method_called(name):
    if name == "leace":
        pytest.importorskip("concept_erasure")
        return Leace()
    return {
        "steerers": ConceptSteerers(PLAIN_CODE),
        "itd": InterpretThenDeactivate(PLAIN_CODE),
        "snce": SNCE(PROMPT_CODE),
    }[name]


@pytest.fixture(params=NAMES)
def method(request):
    return method_called(request.param)


@pytest.fixture
def erasure(method, shared_pipe):
    return method.prepare(shared_pipe, [ZZZ])


def edited(erasure, tower, prompts):
    """What the erasure makes of prompts, by its own function."""
    x = tower.encode(prompts)
    if isinstance(erasure, NeuronErasure):
        return erasure.eraser.edit(x)
    return erasure.edit(x, tower.kinds(tower.tokenize(prompts)))


# -- what all of them promise ------------------------------------------------------------------------------------------


def test_prepare_leaves_the_pipeline_as_it_is(method, shared_pipe):
    before, drawn = state(shared_pipe), picture(shared_pipe, LOUD)
    method.prepare(shared_pipe, [ZZZ, QQ])
    assert state(shared_pipe) == before
    assert picture(shared_pipe, LOUD) == drawn


def test_the_denoiser_reads_the_edited_prompt_and_the_untouched_negative(erasure, shared_pipe, tower):
    prompts = [LOUD, SILENT]
    plain = encode(shared_pipe, prompts, negative=prompts)
    with erasure.attached(shared_pipe):
        positive, negative = encode(shared_pipe, prompts, negative=prompts)
        again = encode(shared_pipe, prompts, negative=prompts)
    assert same_bits(positive, edited(erasure, tower, prompts))
    assert not torch.equal(positive[0], plain[0][0])
    assert same_bits(negative, plain[1])
    assert same_bits(again[0], positive)
    assert not touched(plain[0], positive)[:, 0].any()  # begin-of-text


def test_afterwards_everything_is_as_before(erasure, shared_pipe):
    before, drawn = state(shared_pipe), picture(shared_pipe, LOUD)
    with erasure.attached(shared_pipe):
        assert picture(shared_pipe, LOUD) != drawn
    assert state(shared_pipe) == before
    assert picture(shared_pipe, LOUD) == drawn
    with pytest.raises(TypeError), erasure.attached(shared_pipe):
        encode(shared_pipe, ["a", "b"], negative="not a list")
    assert state(shared_pipe) == before
    assert picture(shared_pipe, LOUD) == drawn


def test_a_failed_call_does_not_confuse_the_next(erasure, shared_pipe, tower):
    with erasure.attached(shared_pipe):
        with pytest.raises(TypeError):
            encode(shared_pipe, ["a", "b"], negative="not a list")
        assert same_bits(encode(shared_pipe, [LOUD], negative=[LOUD])[0], edited(erasure, tower, [LOUD]))


def test_given_embeddings_are_used_as_they_are_and_so_is_the_negative_beside_them(erasure, shared_pipe):
    given = encode(shared_pipe, [LOUD])[0]
    drawn = picture(shared_pipe, None, prompt_embeds=given, negative_prompt=LOUD)
    with erasure.attached(shared_pipe):
        assert picture(shared_pipe, None, prompt_embeds=given, negative_prompt=LOUD) == drawn


def test_the_tower_is_read_as_it_is_unless_the_edited_one_is_asked_for(erasure, shared_pipe, tower):
    plain = tower.encode([LOUD])
    with erasure.attached(shared_pipe):
        assert same_bits(tower.encode([LOUD]), plain)
        assert same_bits(tower.encode([LOUD], edited=True), edited(erasure, tower, [LOUD]))


def test_the_user_may_ask_for_several_pictures_and_for_clip_skip(erasure, pipe, tower):
    expected = edited(erasure, tower, [LOUD])
    with erasure.attached(pipe):
        assert same_bits(pipe.encode_prompt(LOUD, "cpu", 2, False)[0].detach(), expected.expand(2, -1, -1))
    if not hasattr(pipe.text_encoder, "text_model"):  # diffusers looks for it; not every transformers version has it
        vars(pipe.text_encoder)["text_model"] = pipe.text_encoder
    plain = encode(pipe, [LOUD], negative=[LOUD], clip_skip=1)
    with erasure.attached(pipe):
        positive, negative = encode(pipe, [LOUD], negative=[LOUD], clip_skip=1)
    assert touched(plain[0], positive).any()
    assert same_bits(negative, plain[1])


def test_gradients_pass_through_the_edit(erasure, shared_pipe, tower):
    embedding = shared_pipe.text_encoder.get_input_embeddings().weight
    with erasure.attached(shared_pipe):
        out = shared_pipe.text_encoder(tower.tokenize([LOUD]))[0]
    assert same_bits(out.detach(), edited(erasure, tower, [LOUD]))
    (gradient,) = torch.autograd.grad(out.square().sum(), embedding)
    plain = shared_pipe.text_encoder(tower.tokenize([LOUD]))[0]
    (unedited,) = torch.autograd.grad(plain.square().sum(), embedding)
    assert gradient.isfinite().all()
    assert (gradient != 0).any()
    assert not torch.allclose(gradient, unedited)


@pytest.mark.parametrize("name", ["leace", "steerers", "itd"])  # for SNCE's edit see tests/erase/test_edit.py
def test_half_precision_embeddings_stay_half_precision(name, shared_pipe, tower):
    erasure = method_called(name).prepare(shared_pipe, [ZZZ])
    x, kinds = tower.encode([LOUD]), tower.kinds(tower.tokenize([LOUD]))
    out = erasure.edit(x.half(), kinds)
    assert out.dtype == torch.float16
    assert torch.allclose(out.float(), erasure.edit(x, kinds), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped(name, shared_pipe, tower):
    d, positions, m = tower.width, tower.positions, PLAIN_CODE.config.latents
    erasure = method_called(name).prepare(shared_pipe, [ZZZ, QQ])
    floats = {
        "leace": 2 * d + 2 * d + d,  # two concepts: rank two
        "steerers": positions * d,
        "itd": 2 * m * d + m + d + 1,
        "snce": 2 * (2 * d + 4),
    }
    extra = 2 if name == "snce" else 8 * len(erasure.features) if name == "itd" else 0  # flags; indices
    assert erasure.nbytes == 4 * floats[name] + extra


@pytest.mark.parametrize("name", NAMES)
def test_other_pipelines_are_refused(name):
    with pytest.raises(SnceError, match="object is not a known pipeline"):
        method_called(name).prepare(object(), [ZZZ])


# -- LEACE -------------------------------------------------------------------------------------------------------------


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


# -- Concept Steerers --------------------------------------------------------------------------------------------------


@CODES
def test_steering_adds_what_the_concepts_prompt_activates(sae, shared_pipe, tower):
    erasure = ConceptSteerers(sae, -0.7).prepare(shared_pipe, [ZZZ, QQ])
    x, prompt = tower.encode([SILENT]), tower.encode(["zzz, qq"])[0]
    u = (prompt - sae.b_dec) / sae.scale @ sae.W_enc.T + sae.b_enc
    written = sae.scale * (u.clamp_min(0) @ sae.W_dec)
    written[0] = 0  # begin-of-text
    kinds = tower.kinds(tower.tokenize([SILENT]))
    assert torch.allclose(erasure.edit(x, kinds), x - 0.7 * written, atol=1e-5)


@CODES
def test_steering_by_zero_is_the_identity(sae, shared_pipe, tower):
    drawn = picture(shared_pipe, LOUD)
    erasure = ConceptSteerers(sae, 0.0).prepare(shared_pipe, [ZZZ])
    with erasure.attached(shared_pipe):
        assert same_bits(encode(shared_pipe, [LOUD])[0], tower.encode([LOUD]))
        assert picture(shared_pipe, LOUD) == drawn


# -- ItD ---------------------------------------------------------------------------------------------------------------


def top_of(sae, tower, prompt, top):
    """Features of one prompt, the slow way."""
    z = sae.encode(tower.encode([prompt]), tower.kinds(tower.tokenize([prompt]))).activations[0]
    ranked = sorted(((float(z[:, i].max()), i) for i in range(z.shape[1])), reverse=True)[:top]
    return {i for height, i in ranked if height > 0}


@CODES
@pytest.mark.parametrize("top", [3, 128])
def test_itds_features_are_those_of_targets_that_no_retain_prompt_has(sae, top, shared_pipe, tower):
    erasure = InterpretThenDeactivate(sae, top=top).prepare(shared_pipe, [ZZZ, QQ])
    targets = {i for p in (*ZZZ.targets, *QQ.targets) for i in top_of(sae, tower, p, top)}
    retained = {i for p in NEUTRALS for i in top_of(sae, tower, p, top)}
    assert set(erasure.features.tolist()) == targets - retained


@pytest.fixture(params=[PROMPT_CODE, PLAIN_CODE], ids=["prompt", "position"])
def half_open(request, tower):
    """An erasure whose threshold lies among the gaps of some prompts: with these prompts and their gaps."""
    prompts = [*TARGETS[:6], *NEUTRALS[:6]]
    x, kinds = tower.encode(prompts), tower.kinds(tower.tokenize(prompts))
    chosen = features(request.param, Embeddings(x[:6], kinds[:6]), 4).nonzero().flatten()
    shut = DeactivationErasure(request.param, chosen, -8.0, 1e9)
    gap = shut.reconstruct(x, kinds)[1].sort().values
    return replace(shut, threshold=float(gap[5] + gap[6]) / 2), prompts, x, kinds


def test_itd_leaves_prompts_below_the_threshold_bit_for_bit(half_open, shared_pipe):
    erasure, prompts, x, kinds = half_open
    passed = erasure.reconstruct(x, kinds)[1] >= erasure.threshold
    assert passed.sum() == 6
    with erasure.attached(shared_pipe):
        changed = touched(x, encode(shared_pipe, prompts)[0])
        assert torch.equal(changed, passed[:, None] & (kinds != BEGIN))
        loud, silent = (prompts[int(i)] for i in (passed.int().argmax(), passed.int().argmin()))
        drawn = {p: picture(shared_pipe, p) for p in (loud, silent)}
    assert drawn[silent] == picture(shared_pipe, silent)
    assert drawn[loud] != picture(shared_pipe, loud)


def test_itd_replaces_the_others_by_the_reconstruction_of_the_changed_code(half_open):
    erasure, _, x, kinds = half_open
    passed = erasure.reconstruct(x, kinds)[1] >= erasure.threshold
    z = erasure.sae.encode(x, kinds).activations
    z[..., erasure.features] *= -8
    made = erasure.sae.decode(z)
    content = kinds[passed] != BEGIN
    assert torch.allclose(erasure.edit(x, kinds)[passed][content], made[passed][content], atol=1e-4)
    unchanged = replace(erasure, factor=1.0, threshold=0.0)
    assert torch.allclose(unchanged.edit(x, kinds)[:, 1:], erasure.sae(x, kinds)[:, 1:], atol=1e-5)


def test_itd_does_not_look_at_other_prompts_of_the_batch(half_open):
    erasure, _, x, kinds = half_open
    alone = torch.cat([erasure.edit(x[i : i + 1], kinds[i : i + 1]) for i in range(len(x))])
    assert torch.allclose(erasure.edit(x, kinds), alone, atol=1e-4)


def test_itds_threshold_lets_all_targets_through_or_the_share_that_is_asked_for(shared_pipe, tower):
    x, kinds = tower.encode(TARGETS), tower.kinds(tower.tokenize(TARGETS))
    for missed, through in ((0.0, 12), (0.25, 10)):  # with the margin of one hundredth, at the least
        erasure = InterpretThenDeactivate(PLAIN_CODE, missed=missed).prepare(shared_pipe, [ZZZ])
        gap = erasure.reconstruct(x, kinds)[1].sort().values
        assert erasure.threshold == pytest.approx(0.99 * float(gap[12 - through]), rel=1e-5)
        assert int((gap >= erasure.threshold).sum()) >= through


def test_itd_without_a_feature_leaves_all_prompts(shared_pipe, tower):
    same = Concept("same", tuple(NEUTRALS), tuple(NEUTRALS))
    erasure = InterpretThenDeactivate(PLAIN_CODE).prepare(shared_pipe, [same])
    assert len(erasure.features) == 0
    with erasure.attached(shared_pipe):
        assert same_bits(encode(shared_pipe, [LOUD])[0], tower.encode([LOUD]))


# -- SNCE --------------------------------------------------------------------------------------------------------------


def eraser_of(sae, tower, concept, n, strength):
    (rank_t, test_t), (rank_n, test_n) = (harvest(tower, p).halves() for p in (concept.targets, concept.neutrals))
    cards = find_neurons(sae, rank_t, rank_n)[:n]
    return build_eraser(concept.name, sae, cards, tower, test_t, test_n, strength)


@CODES
@pytest.mark.parametrize(("n", "strength"), [(1, STRENGTH), (1, 1.0), (4, 2.0)])
def test_snce_is_the_eraser_of_the_best_neurons_attached(sae, n, strength, shared_pipe, tower):
    erasure = SNCE(sae, n=n, strength=strength).prepare(shared_pipe, [ZZZ])
    eraser = eraser_of(sae, tower, ZZZ, n, strength)
    assert all(map(same_bits, erasure.eraser.neurons, eraser.neurons))
    assert erasure.eraser.card == eraser.card
    prompts = [*TARGETS, *NEUTRALS]
    with erasure.attached(shared_pipe):
        mine, drawn = encode(shared_pipe, prompts)[0], picture(shared_pipe, LOUD)
    with eraser.attach(shared_pipe):
        assert same_bits(encode(shared_pipe, prompts)[0], mine)
        assert picture(shared_pipe, LOUD) == drawn


def test_snce_edits_the_kinds_of_position_that_it_is_told_and_no_other(shared_pipe, tower):
    """Against the edit of all of them."""
    plain, kinds = tower.encode([LOUD]), tower.kinds(tower.tokenize([LOUD]))
    method = SNCE(PROMPT_CODE)
    everywhere = method.prepare(shared_pipe, [ZZZ]).eraser.edit(plain)
    with replace(method, positions=(WORD, PADDING)).prepare(shared_pipe, [ZZZ]).attached(shared_pipe):
        found = encode(shared_pipe, [LOUD])[0]
    told = (kinds == WORD) | (kinds == PADDING)
    assert same_bits(found[told], everywhere[told])
    assert same_bits(found[~told], plain[~told])
    assert not same_bits(found[told], plain[told])


def test_snce_of_two_concepts_is_the_union_of_their_erasers(shared_pipe, tower):
    both = SNCE(PROMPT_CODE).prepare(shared_pipe, [ZZZ, QQ]).eraser
    joined = eraser_of(PROMPT_CODE, tower, QQ, 1, STRENGTH) | eraser_of(PROMPT_CODE, tower, ZZZ, 1, STRENGTH)
    assert both.concepts == joined.concepts
    assert all(map(same_bits, both.neurons, joined.neurons))


def test_snce_says_that_it_needs_two_prompts_of_each_kind(shared_pipe):
    with pytest.raises(SnceError, match="'few' has 1 target and 2 neutral prompts; it takes two of each"):
        SNCE(PROMPT_CODE).prepare(shared_pipe, [Concept("few", ("a",), ("b", "c"))])


# -- Emblem ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_on_emblem_the_prompt_changes_and_the_pipeline_is_left_as_found(name, emblem, trained):
    from snce.emblem.concepts import load_concept

    method = method_called(name)
    if name != "leace":
        method = replace(method, sae=trained.sae)
    _, hooks = state(emblem)
    tower = TextTower.from_pipeline(emblem)
    plain, drawn = tower.encode(["a cigarette"]), picture(emblem, "a cigarette")
    erasure = method.prepare(emblem, [load_concept("cigarette")])
    with erasure.attached(emblem):
        positive, negative = encode(emblem, ["a cigarette"], negative=["a cigarette"])
        assert picture(emblem, "a cigarette") != drawn
    assert touched(plain, positive).any()
    assert same_bits(negative, plain)
    assert picture(emblem, "a cigarette") == drawn
    assert state(emblem)[1] == hooks
    assert "encode_prompt" not in vars(emblem)
