"""Codes of prompts: those of the SAE, whatever is coded beside them, in the memory that they are said to take."""

from __future__ import annotations

import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snce.errors import SnceError
from snce.neurons.codes import block_prompts, code_bytes, code_prompts
from snce.sae.config import SAEConfig
from snce.text.harvest import Embeddings
from tests.examples import random_embeddings, random_sae

CONFIGS = [
    SAEConfig(8, latents=24, k=4),
    SAEConfig(8, latents=24, k=24),
    SAEConfig(8, latents=24, k=4, activation="batchtopk"),
    SAEConfig(8, latents=24, k=4, support="position"),
    SAEConfig(8, latents=24, k=4, support="position", activation="jumprelu"),
]
configs = st.sampled_from(CONFIGS)
each_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.support} {c.activation} {c.k}")
seeds = st.integers(0, 10_000)


def sae_of(config: SAEConfig, seed: int = 1):
    sae = random_sae(seed, config)
    sae.threshold.copy_(torch.linspace(-0.2, 0.8, config.latents))  # of jumprelu alone
    return sae


def part(data: Embeddings, rows) -> Embeddings:
    return Embeddings(data.x[rows], data.kinds[rows])


class PeakBytes(TorchDispatchMode):
    """The most that the tensors made within the block took at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for t in tree_leaves(result):
            if isinstance(t, torch.Tensor):
                self._count(t.untyped_storage(), given)
        return result

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in given or (key in self.seen and self.seen[key].alive):
            return
        self.now += size
        self.peak = max(self.peak, self.now)
        self.seen[key] = weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


@each_config
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_prompts_code_is_that_of_the_sae(config, dtype):
    sae, data = sae_of(config), random_embeddings(1, n=200, dtype=dtype)
    codes = code_prompts(sae, data)
    expected = sae.encode(data.x.float(), data.kinds).activations.amax(1)
    torch.testing.assert_close(codes.dense(), expected)
    assert torch.equal(codes.dense() > 0, expected > 0)
    assert (codes.values > 0).all()


@given(configs, seeds, st.lists(st.integers(0, 199), min_size=1, max_size=99))
def test_a_prompts_code_has_the_same_bits_whatever_is_coded_beside_it(config, seed, chosen):
    sae, data = sae_of(config, seed), random_embeddings(seed, n=200)
    rows = torch.tensor(chosen)
    everything = code_prompts(sae, data).dense()[rows]
    assert torch.equal(code_prompts(sae, data, rows).dense(), everything)
    assert torch.equal(code_prompts(sae, part(data, rows)).dense(), everything)


@each_config
def test_entries_come_prompt_by_prompt_strongest_first(config):
    codes = code_prompts(sae_of(config), random_embeddings(3, n=100))
    dense = codes.dense()
    for i in range(100):
        at = slice(int(codes.starts[i]), int(codes.starts[i + 1]))
        assert sorted(codes.values[at].tolist(), reverse=True) == codes.values[at].tolist()
        assert codes.values[at].tolist() == dense[i][codes.latents[at].long()].tolist()
        assert len(codes.values[at]) == int((dense[i] > 0).sum())


def test_blocks_hold_one_prompt_at_least():
    assert [block_prompts(positions) for positions in (1, 77, 640, 4096)] == [640, 8, 1, 1]


def test_an_sae_in_training_is_coded_as_one_that_is_not():
    sae, data = sae_of(CONFIGS[2]), random_embeddings(1, n=30)
    resting = code_prompts(sae, data).dense()
    assert torch.equal(code_prompts(sae.train(), data).dense(), resting)


def test_embeddings_of_another_width_are_refused():
    with pytest.raises(SnceError, match="the SAE has width 8, the embeddings have 9"):
        code_prompts(sae_of(CONFIGS[0]), random_embeddings(1, d=9))


@pytest.mark.parametrize("n", [8, 400])
@pytest.mark.parametrize(
    ("support", "activation"), [("prompt", "topk"), ("position", "topk"), ("position", "jumprelu")]
)
def test_it_takes_no_more_memory_than_it_says(support, activation, n):
    sae = random_sae(1, SAEConfig(64, latents=3000, k=32, support=support, activation=activation))
    data = random_embeddings(1, n=n, positions=77, d=64, dtype=torch.float16)
    with PeakBytes() as memory:
        code_prompts(sae, data)
    bound = code_bytes(sae.config, n, 77)
    assert memory.now < memory.peak / 4  # what was let go of is counted off again
    assert memory.peak <= bound
    if n == 8:
        assert bound < 2 * memory.peak  # and it is no wild guess
