"""Checkpoints: a training that was stopped goes on as if it had not been."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from snce import checkpoint
from snce.errors import SnceError
from snce.storage import read_tensors, write_tensors
from tests.examples import same_bits


def make(optimizer: str, seed: int = 0, width: int = 3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(width, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    kinds = {
        "adam": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True),
        "adamw": lambda p: torch.optim.AdamW(p, 1e-2),
        "momentum": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
        "sgd": lambda p: torch.optim.SGD(p, 1e-2),
    }
    return model, kinds[optimizer](model.parameters())


def run(model, optimizer, start, stop):
    for step in range(start, stop):
        x = torch.randn(8, model[0].in_features, generator=checkpoint.generator(0, step))
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum", "sgd"])
def test_a_resumed_training_gives_the_same_bits(tmp_path, optimizer):
    model, opt = make(optimizer)
    run(model, opt, 0, 7)
    checkpoint.save(tmp_path / "c", 7, {"m": model}, {"o": opt}, "this")
    run(model, opt, 7, 12)
    resumed, again = make(optimizer, seed=1)
    start = checkpoint.load(tmp_path / "c", {"m": resumed}, {"o": again}, "this")
    assert start == 7
    run(resumed, again, start, 12)
    assert all(same_bits(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True))


def test_without_a_checkpoint_training_starts_at_the_beginning(tmp_path):
    model, opt = make("adam")
    before = copy.deepcopy(model.state_dict())
    assert checkpoint.load(tmp_path / "c", {"m": model}, {"o": opt}) == 0
    assert all(same_bits(before[k], v) for k, v in model.state_dict().items())


def test_another_trainings_checkpoint_is_refused(tmp_path):
    model, opt = make("adam")
    checkpoint.save(tmp_path / "c", 7, {"m": model}, {"o": opt}, "this")
    with pytest.raises(SnceError, match="'this', not 'that'"):
        checkpoint.load(tmp_path / "c", {"m": model}, {"o": opt}, "that")
    wider, _ = make("adam", width=5)
    with pytest.raises(SnceError, match="does not fit"):
        checkpoint.load(tmp_path / "c", {"m": wider}, {}, "this")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    model, opt = make("adam")
    path = tmp_path / "c"
    checkpoint.save(path, 7, {"m": model}, {"o": opt})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SnceError, match="truncated"):
        checkpoint.load(path, {"m": model}, {"o": opt})


def test_a_checkpoint_without_a_checksum_is_refused(tmp_path):
    model, opt = make("adam")
    path = tmp_path / "c"
    checkpoint.save(path, 7, {"m": model}, {"o": opt})
    tensors, metadata = read_tensors(path, checkpoint.KIND)
    save_file(tensors, path, metadata)
    with pytest.raises(SnceError, match=r"no checksum.*delete it"):
        checkpoint.load(path, {"m": model}, {"o": opt})


@pytest.mark.parametrize(
    "change", [{"exp_avg": torch.zeros(7)}, {"9/step": torch.zeros(())}, {"x/step": torch.zeros(())}, {"0": None}]
)
def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path, change):
    model, opt = make("adam")
    path = tmp_path / "c"
    run(model, opt, 0, 2)
    checkpoint.save(path, 7, {"m": model}, {"o": opt})
    tensors, metadata = read_tensors(path, checkpoint.KIND)
    (key, value), *_ = change.items()
    key = f"optimizer/o/{key if '/' in key or value is None else f'0/{key}'}"
    write_tensors(path, tensors | {key: torch.ones(2) if value is None else value}, metadata)
    with pytest.raises(SnceError, match="does not fit"):
        checkpoint.load(path, {"m": model}, {"o": opt})


def test_every_step_has_a_random_stream_of_its_own():
    def draw(seed, step):
        return torch.randint(1 << 60, (4,), generator=checkpoint.generator(seed, step)).tolist()

    assert draw(3, 5) == draw(3, 5)
    assert len({tuple(draw(seed, step)) for seed in range(5) for step in range(20)}) == 100
