"""Training: it learns what is there, resumes bit for bit, and refuses what it cannot use."""

from dataclasses import replace

import pytest
import torch

from snce.errors import SnceError
from snce.sae.config import SAEConfig, TrainConfig
from snce.sae.metrics import fvu
from snce.sae.train import train_sae
from snce.text.harvest import Embeddings
from snce.text.positions import BEGIN
from tests.examples import random_embeddings, random_kinds, same_bits

SMALL = SAEConfig(8, latents=16, k=3)
SHORT = TrainConfig(steps=250, batch=16, dead_after=20, aux_k=4)


class Interrupted(Embeddings):
    """Embeddings whose reader is killed after a number of steps."""

    def __getattribute__(self, name):
        if name == "kinds":
            left = object.__getattribute__(self, "__dict__").setdefault("left", [float("inf")])
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
        return object.__getattribute__(self, name)


def same_weights(a, b) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(same_bits(one[k], two[k]) for k in one)


def planted(support: str, features: int = 24, d: int = 16, k: int = 3, n: int = 1500):
    """Prompts of k features each (prompt code) or per position, and the true dictionary [features, d]."""
    rng = torch.Generator().manual_seed(777)  # not the seed of the initial weights
    kinds = random_kinds(1, n, 6)
    rows = torch.nn.functional.normalize(torch.randn(features, d, generator=rng), dim=-1)
    places = 1 if support == "prompt" else 6
    chosen = torch.rand(n, places, features, generator=rng).argsort(-1) < k
    z = chosen * (0.5 + torch.rand(n, 6, features, generator=rng))
    return Embeddings(z @ rows, kinds), rows


@pytest.mark.parametrize("support", ["prompt", "position"])
def test_a_planted_dictionary_is_found(support):
    data, rows = planted(support)
    config = SAEConfig(16, latents=32, k=3, support=support)
    found = {}
    for steps in (1, 500):
        sae, metrics = train_sae(data, config, TrainConfig(steps=steps, batch=96, lr=5e-3, dead_after=50))
        cosine = rows @ sae.W_dec.T
        found[steps] = cosine.amax(1).mean().item(), metrics.fvu
    assert found[500][0] > 0.85
    assert found[500][0] > found[1][0] + 0.2
    assert found[500][1] < 0.25 < found[1][1]


@pytest.mark.parametrize("support", ["prompt", "position"])
@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_decoder_rows_have_unit_norm_after_training(support, activation):
    config = replace(SMALL, support=support, activation=activation)
    sae, metrics = train_sae(random_embeddings(0, n=60), config, replace(SHORT, steps=40))
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(16))
    assert 0 < metrics.l0 <= config.k
    assert 0 <= metrics.dead < 1
    assert not any(p.requires_grad for p in sae.parameters())


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    data = random_embeddings(0, n=60)
    once, again = train_sae(data, SMALL, replace(SHORT, steps=30)), train_sae(data, SMALL, replace(SHORT, steps=30))
    assert same_weights(once.sae, again.sae)
    assert once.metrics == again.metrics
    assert not same_weights(once.sae, train_sae(data, SMALL, replace(SHORT, steps=30, seed=1)).sae)


def test_training_leaves_the_random_state_of_the_caller_alone():
    before = torch.random.get_rng_state()
    train_sae(random_embeddings(0, n=20), SMALL, replace(SHORT, steps=2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path):
    data = random_embeddings(0, n=60)
    config = SAEConfig(8, latents=96, k=1)  # many latents are silent when it stops, which must be remembered too
    path = tmp_path / "sae.safetensors"
    whole = train_sae(data, config, SHORT)
    broken = Interrupted(data.x, data.kinds)
    broken.__dict__["left"][0] = 1 + 230
    with pytest.raises(KeyboardInterrupt):
        train_sae(broken, config, SHORT, path)
    assert path.exists()
    rest = Interrupted(data.x, data.kinds)
    before = rest.__dict__["left"][0] = 10_000
    resumed = train_sae(rest, config, SHORT, path)
    assert before - rest.__dict__["left"][0] < 100  # 50 steps, not 250
    assert same_weights(resumed.sae, whole.sae)
    assert resumed.metrics == whole.metrics


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    data, path = random_embeddings(0, n=60), tmp_path / "sae.safetensors"
    train_sae(data, SMALL, replace(SHORT, steps=3), path)
    for other in ((data, SMALL, replace(SHORT, steps=4)), (data, replace(SMALL, k=2), replace(SHORT, steps=3)),
                  (random_embeddings(0, n=61), SMALL, replace(SHORT, steps=3)),
                  (random_embeddings(5, n=60), SMALL, replace(SHORT, steps=3))):  # fmt: skip
        with pytest.raises(SnceError, match="another training"):
            train_sae(*other, path)


def test_begin_of_text_does_not_enter_the_training():
    data = random_embeddings(0, n=60)
    other = Embeddings(torch.where((data.kinds == BEGIN)[..., None], 1e3 * torch.ones(8), data.x), data.kinds)
    one, two = (train_sae(d, SMALL, replace(SHORT, steps=20)) for d in (data, other))
    assert same_weights(one.sae, two.sae)
    assert one.metrics == two.metrics


def test_the_auxiliary_loss_moves_latents_that_never_fire_and_nothing_else_does():
    data = random_embeddings(0, n=100)
    config = SAEConfig(8, latents=256, k=1)
    initial = train_sae(data, config, TrainConfig(steps=1, batch=32, lr=0)).sae.W_enc
    moved = {}
    for aux_k in (0, 64):
        sae, _ = train_sae(data, config, TrainConfig(steps=60, batch=32, dead_after=10, aux_k=aux_k))
        moved[aux_k] = (sae.W_enc != initial).any(-1).float().mean().item()
    assert 0 < moved[0] < 0.9 < moved[64]


def test_nested_training_makes_the_first_latents_reconstruct_by_themselves():
    """Against the same training without it: the first eight of 32 latents leave less of the variance."""
    data, _ = planted("prompt")
    training = TrainConfig(steps=300, batch=96, lr=5e-3, dead_after=50)

    def unexplained(nested):
        sae = train_sae(data, SAEConfig(16, latents=32, k=3), replace(training, nested=nested)).sae
        z = sae.encode(data.x, data.kinds).activations * (torch.arange(32) < 8)
        return fvu(sae, data.x - sae.decode(z), data.kinds).item()

    assert unexplained((8,)) < 0.9 * unexplained(())


@pytest.mark.parametrize("nested", [(0,), (16,), (4, 40)])
def test_nested_sizes_are_parts_of_the_dictionary(nested):
    with pytest.raises(SnceError, match="nested"):
        train_sae(random_embeddings(1, 40, 6, 8), SMALL, replace(SHORT, nested=nested))


def test_unusable_embeddings_are_refused():
    data = random_embeddings(0, n=20)
    with pytest.raises(SnceError, match="width 9, the embeddings have 8"):
        train_sae(data, SAEConfig(9, latents=16, k=3), SHORT)
    data.x[3, 2, 1] = float("nan")
    with pytest.raises(SnceError, match="NaN"):
        train_sae(data, SMALL, SHORT)


@pytest.mark.parametrize("support", ["prompt", "position"])
def test_a_loss_that_is_not_finite_ends_the_training(support):
    data = random_embeddings(0, n=20)
    with pytest.raises(SnceError, match=r"loss is not finite.*learning rate"):
        train_sae(data, replace(SMALL, support=support), replace(SHORT, lr=1e30))


@pytest.mark.parametrize(
    "fields",
    [{"steps": -1}, {"batch": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"lr": float("inf")}, {"padding": -1},
     {"aux_k": -1}, {"dead_after": -1}, {"held_out": -0.1}, {"held_out": 1.0}, {"held_out": float("nan")}],
    ids=str,
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(fields):
    with pytest.raises(SnceError, match=f"{next(iter(fields))} = .* must be"):
        TrainConfig(**fields)


@pytest.mark.parametrize("support", ["prompt", "position"])
def test_prompts_without_content_enter_neither_the_training_nor_the_metrics(support):
    data, config = random_embeddings(0, n=30), replace(SMALL, support=support)
    data.kinds[::2] = BEGIN
    training = replace(SHORT, steps=20, batch=1, held_out=0.4)
    once = train_sae(data, config, training)
    data.x[::2] = torch.nan
    again = train_sae(data, config, training)
    assert same_weights(once.sae, again.sae)
    assert once.metrics == again.metrics
    assert 0 < once.metrics.l0 <= config.k
    data.kinds[:] = BEGIN
    with pytest.raises(SnceError, match="no token but begin-of-text"):
        train_sae(data, config, training)


def test_a_share_of_nearly_all_prompts_leaves_one_to_train_on():
    assert train_sae(random_embeddings(0, n=3), SMALL, replace(SHORT, steps=2, held_out=0.99)).metrics.fvu > 0


def test_a_few_prompts_are_enough_to_run():
    for n in (1, 2):
        _, metrics = train_sae(random_embeddings(0, n=n), SMALL, replace(SHORT, steps=2, batch=2))
        assert metrics.fvu >= 0
