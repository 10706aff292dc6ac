"""UCE and RECE: the closed form is a minimum, does what it is for in its limits, and goes without a trace."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.bench.methods.prompts import neutral_prompts
from snce.bench.methods.rece import RECE, adversarial_map
from snce.bench.methods.uce import UCE, closed_form, cross_attention, erased_and_guide
from snce.errors import SnceError
from snce.text.prompts import Concept
from tests.examples import encode, picture, same_bits, state, tiny_pipeline

SEEDS = st.integers(0, 10_000)
WEIGHTS = st.sampled_from([0.1, 1.0, 30.0])
D = 9

CAT = Concept("cat", ("a red cat", "big cat", "the cat"), ("a dog", "red hat", "an old car", "blue sky", "a dog"))
BEER = Concept("beer", ("a beer", "old beer", "an ale", "red ale"), ("a dog", "a cat", "green tea", "big tree"))
METHODS = [UCE(), UCE(tokens="all"), UCE(preserve=0), RECE(epochs=2)]


def random(seed: int, *shape: int):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(seed: int, erased: int = 2, kept: int = 4):
    """Two weights, and the embeddings that are erased, their guide, and what stays."""
    weights = {"k": random(seed, 5, D), "v": random(seed + 1, 7, D)}
    return weights, random(seed + 2, erased, D), random(seed + 3, erased, D), random(seed + 4, kept, D)


def close(a, b, tolerance=1e-6):
    return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance)


# -- the closed form ---------------------------------------------------------------------------------------------------


@given(SEEDS, WEIGHTS, WEIGHTS, WEIGHTS, st.integers(1, 4), st.integers(0, 20))
def test_the_closed_form_is_the_least_squares_solution(seed, e, p, keep, erased, kept):
    weights, c, guide, preserve = problem(seed, erased, kept)
    solution = closed_form(weights, c, guide, preserve, e, p, keep)
    rows = torch.cat([keep**0.5 * torch.eye(D, dtype=torch.float64), e**0.5 * c, p**0.5 * preserve])
    for name, old in weights.items():
        goals = torch.cat([keep**0.5 * old.T, e**0.5 * guide @ old.T, p**0.5 * preserve @ old.T])
        assert close(solution[name], torch.linalg.lstsq(rows, goals).solution.T)


@given(SEEDS)
def test_with_a_large_erase_weight_the_concept_becomes_its_guide(seed):
    weights, c, guide, preserve = problem(seed, kept=20)
    for name, new in closed_form(weights, c, guide, preserve, 1e9, 1.0, 0.5).items():
        assert close(new @ c.T, weights[name] @ guide.T, 1e-5)


@given(SEEDS)
def test_with_a_large_preserve_weight_the_preserve_set_stays(seed):
    weights, c, guide, preserve = problem(seed)
    for name, new in closed_form(weights, c, guide, preserve, 1.0, 1e9, 0.5).items():
        assert close(new @ preserve.T, weights[name] @ preserve.T, 1e-5)
        assert not close(new @ c.T, weights[name] @ c.T, 1e-2)


@given(SEEDS)
def test_nothing_changes_where_nothing_is_asked(seed):
    weights, c, guide, preserve = problem(seed)
    for e, goal in ((0.0, guide), (1.0, c)):
        for name, new in closed_form(weights, c, goal, preserve, e, 1.0, 0.5).items():
            assert torch.equal(new, weights[name])


@given(SEEDS)
def test_the_order_of_the_concepts_does_not_matter(seed):
    weights, c, guide, preserve = problem(seed, erased=3)
    one, other = (closed_form(weights, c[i], guide[i], preserve, 1.0, 1.0, 0.5) for i in ([0, 1, 2], [2, 0, 1]))
    assert all(close(one[name], other[name], 1e-9) for name in weights)


@given(SEEDS, WEIGHTS)
def test_the_adversarial_map_is_the_least_squares_solution(seed, closeness):
    before, after = problem(seed)[0], problem(seed + 50)[0]
    rows = torch.cat([closeness**0.5 * torch.eye(D, dtype=torch.float64), *after.values()])
    goals = torch.cat([torch.zeros(D, D, dtype=torch.float64), *before.values()])
    assert close(adversarial_map(before, after, closeness), torch.linalg.lstsq(rows, goals).solution)


@given(SEEDS)
def test_unedited_weights_need_no_adversary(seed):
    weights = problem(seed)[0]  # 5 + 7 rows: nothing is invisible to both
    assert close(adversarial_map(weights, weights, 1e-12), torch.eye(D), 1e-4)


# -- which embeddings --------------------------------------------------------------------------------------------------


def test_the_last_token_is_the_one_before_the_end_and_all_is_that_and_what_follows(tower):
    x = tower.encode(["cat"])[0]  # a token per letter: begin, c, a, t, end
    nothing = tower.encode([""])[0]
    c, guide = erased_and_guide(tower, ["cat"], "", "last")
    assert torch.equal(c.float(), x[3:4])
    assert torch.equal(guide.float(), nothing[:1])
    c, guide = erased_and_guide(tower, ["cat"], "", "all")
    assert torch.equal(c.float(), x[3:])
    assert torch.equal(guide.float(), nothing[:13])
    c, guide = erased_and_guide(tower, ["cat", "an owl"], "a", "all")
    assert c.shape == guide.shape == (13 + 11, tower.width)
    assert torch.equal(guide.float(), torch.cat([tower.encode(["a"])[0, 1:14], tower.encode(["a"])[0, 1:12]]))


def test_the_preserve_set_has_the_words_of_distinct_neutral_prompts(tower):
    rows = UCE(preserve=100).preserved(tower, [CAT], "last", 0)
    assert len(rows) == len("adog" + "redhat" + "anoldcar" + "bluesky")
    assert torch.equal(rows[:4].float(), tower.encode(["a dog"])[0, 1:5])
    assert len(UCE(preserve=100).preserved(tower, [CAT], "all", 0)) == 4 * 15
    assert UCE(preserve=0).preserved(tower, [CAT], "all", 0).shape == (0, tower.width)


def test_names_are_preserved_where_names_are_erased(tower):
    method = UCE(preserve=0, preserve_names=("a dog", "owl"))
    dog, owl = tower.encode(["a dog", "owl"])
    assert torch.equal(method.preserved(tower, [CAT], "last", 0).float(), torch.stack([dog[4], owl[3]]))
    assert torch.equal(method.preserved(tower, [CAT], "all", 0).float(), torch.cat([dog[4:], owl[3:]]))


def test_neutral_prompts_show_none_of_the_concepts():
    assert neutral_prompts([CAT]) == ["a dog", "red hat", "an old car", "blue sky"]
    assert neutral_prompts([CAT, BEER]) == ["a dog", "red hat", "an old car", "blue sky", "green tea", "big tree"]
    ale = Concept("tea", ("tea",), ("red ale", "an ALE!", "a beer-mat", "beery", "pale"))
    assert neutral_prompts([ale, BEER]) == ["beery", "pale", "a dog", "a cat", "big tree"]
    with pytest.raises(SnceError, match="every neutral prompt of 'beer', 'a dog' names another"):
        neutral_prompts([Concept("beer", ("beer",), ("a dog",)), Concept("a dog", ("a dog",), ("beer",))])


def test_neutral_prompts_are_drawn_by_the_seed():
    draws = [neutral_prompts([CAT, BEER], 3, seed) for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert any(draw != draws[0] for draw in draws)
    assert all(len(set(draw)) == 3 and set(draw) < set(neutral_prompts([CAT, BEER])) for draw in draws)


# -- on a pipeline -----------------------------------------------------------------------------------------------------


def values(pipe):
    return {name: p.detach().clone() for name, p in pipe.unet.named_parameters()}


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.usefixtures("left_as_found")
def test_keys_and_values_change_inside_the_block_only(shared_pipe, method):
    before, drawn = values(shared_pipe), picture(shared_pipe, "a red cat")
    identity = {name: id(p) for name, p in shared_pipe.unet.named_parameters()}
    erasure = method.prepare(shared_pipe, [CAT, BEER])
    assert all(same_bits(before[name], value) for name, value in values(shared_pipe).items())
    with erasure.attached(shared_pipe):
        changed = {name for name, value in values(shared_pipe).items() if not same_bits(before[name], value)}
        assert changed == set(cross_attention(shared_pipe.unet))
        assert picture(shared_pipe, "a red cat") != drawn
    with pytest.raises(ZeroDivisionError), erasure.attached(shared_pipe):
        _ = 1 / 0
    assert all(same_bits(before[name], value) for name, value in values(shared_pipe).items())
    assert identity == {name: id(p) for name, p in shared_pipe.unet.named_parameters()}
    assert picture(shared_pipe, "a red cat") == drawn


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_embeddings_stay_as_they_are(shared_pipe, method):
    plain = encode(shared_pipe, ["a red cat"], negative=["a cat"])
    with method.prepare(shared_pipe, [CAT]).attached(shared_pipe):
        assert all(map(same_bits, encode(shared_pipe, ["a red cat"], negative=["a cat"]), plain))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_what_is_shipped_are_the_weights_of_keys_and_values(shared_pipe, method):
    layers = [m for name, m in shared_pipe.unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]
    assert len(layers) >= 4
    assert method.prepare(shared_pipe, [CAT]).nbytes == sum(4 * layer.weight.numel() for layer in layers)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_same_seed_gives_the_same_weights(shared_pipe, method):
    one, other = (method.prepare(shared_pipe, [CAT, BEER], seed=3).weights for _ in range(2))
    assert all(same_bits(one[name], other[name]) for name in one)


def test_the_weights_have_the_dtype_of_the_denoiser():
    pipe = tiny_pipeline(0)
    pipe.unet.half()
    erasure = UCE().prepare(pipe, [CAT])
    assert {w.dtype for w in erasure.weights.values()} == {torch.float16}
    with erasure.attached(pipe):
        assert {p.dtype for p in pipe.unet.parameters()} == {torch.float16}


def test_several_concepts_are_all_turned_into_the_guide(shared_pipe, tower):
    erasure = UCE(erase_weight=1e8, guide="a hat").prepare(shared_pipe, [CAT, BEER])
    before = cross_attention(shared_pipe.unet)
    goal = tower.encode(["a hat"])[0, 4]
    with erasure.attached(shared_pipe):
        for name, new in cross_attention(shared_pipe.unet).items():
            for word, last in (("cat", 3), ("beer", 4)):
                assert close(new @ tower.encode([word])[0, last], before[name] @ goal, 1e-3)


def test_rece_without_epochs_is_uce(shared_pipe):
    plain = UCE(tokens="all").prepare(shared_pipe, [CAT]).weights
    none = RECE(uce=UCE(tokens="all"), epochs=0).prepare(shared_pipe, [CAT]).weights
    assert all(same_bits(plain[name], none[name]) for name in plain)


def test_an_epoch_of_rece_erases_what_would_bring_the_concept_back(shared_pipe, tower):
    method = RECE(uce=UCE(preserve=0), epochs=1, erase_weight=1e8, tokens="last", closeness=1e-3)
    before = cross_attention(shared_pipe.unet)
    uce = method.uce.prepare(shared_pipe, [CAT]).weights
    rece = method.prepare(shared_pipe, [CAT]).weights
    c, guide = erased_and_guide(tower, ["cat"], "", "last")
    adversary = c @ adversarial_map(before, uce, 1e-3).T

    def distance(weights, embedding, goal):
        return sum(
            float((weights[n].double() @ embedding.T - old.double() @ goal.T).norm()) for n, old in before.items()
        )

    assert distance(uce, adversary, c) < 0.1 * distance(uce, c, c)  # UCE alone lets the adversary have the concept
    assert distance(rece, adversary, c) > 10 * distance(uce, adversary, c)
    for name in before:
        assert close(rece[name] @ adversary.float().T, uce[name] @ guide.float().T, 1e-3)


@pytest.mark.parametrize("method", [UCE(), RECE()], ids=repr)
def test_other_pipelines_are_refused(method):
    with pytest.raises(SnceError, match="object is not a known pipeline"):
        method.prepare(object(), [CAT])


@pytest.mark.parametrize("method", [UCE(erase_weight=1e6), RECE(uce=UCE(erase_weight=1e6), epochs=1)], ids=repr)
def test_on_emblem_the_concept_is_gone_from_keys_and_values(emblem, method):
    from snce.emblem.concepts import load_concept
    from snce.text.towers import TextTower

    _, hooks = state(emblem)
    before, drawn = values(emblem), picture(emblem, "a cigarette")
    erasure = method.prepare(emblem, [load_concept("cigarette")])
    with erasure.attached(emblem):
        assert picture(emblem, "a cigarette") != drawn
    assert picture(emblem, "a cigarette") == drawn
    assert all(same_bits(before[name], value) for name, value in values(emblem).items())
    assert state(emblem)[1] == hooks
    c, guide = erased_and_guide(TextTower.from_pipeline(emblem), ["cigarette"], "", "last")
    for name, new in erasure.weights.items():
        old = before[name].double()
        moved = (new.double() @ c.T - old @ guide.T).norm() / (old @ (c - guide).T).norm()
        assert moved < 0.3
