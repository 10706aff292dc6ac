"""Tokens a block at a time are those of all prompts at once, whatever a pipeline pads to."""

import sys

import pytest
import torch
from benchmarks.machine import PeakMemory
from benchmarks.scale import ClipTokens

from snce.errors import SnceError
from snce.text.blocks import TokenBlocks
from snce.text.harvest import harvest
from snce.text.tokens import Tokens
from snce.text.towers import TextTower
from tests.examples import PROMPTS, same_bits


class Longest(TextTower):
    """Pads to the longest prompt of a call, with a mask, as Qwen-Image does."""

    def tokenize(self, prompts, warn=True):
        tokens = super().tokenize(prompts, warn)
        kept = (tokens.ids == self.tokenizer.eos_token_id).int().argmax(1) + 1
        length = int(kept.max())
        return Tokens(tokens.ids[:, :length], torch.arange(length) < kept[:, None])


@pytest.mark.parametrize("kind", [TextTower, Longest])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_blocks_are_slices_of_all_tokens(tower, kind, chunk):
    tower = kind(tower.encoder, tower.tokenizer, "final_layer_norm")
    prompts = [*PROMPTS, "a longer one", *PROMPTS]
    whole, blocks = tower.tokenize(prompts), TokenBlocks(tower, prompts, chunk)
    assert torch.equal(blocks.kinds, tower.kinds(whole))
    assert blocks.digest == TokenBlocks(tower, prompts, 5).digest
    for start in range(0, len(prompts), 4):
        part = blocks[start : start + 4]
        assert torch.equal(part.ids, whole.ids[start : start + 4])
        assert whole.mask is None or torch.equal(part.mask, whole.mask[start : start + 4])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_of_all_tokens_no_more_than_a_byte_per_position_is_kept_or_held():
    prompts = ["a"] * 400_000
    TokenBlocks(ClipTokens(), prompts[:5000])  # what the libraries set up at their first use
    with PeakMemory() as memory:
        blocks = TokenBlocks(ClipTokens(), prompts)
    assert memory.above < 1.5 * blocks.kinds.numel()


def test_other_tokens_have_another_digest(tower):
    digests = {TokenBlocks(tower, prompts).digest for prompts in (PROMPTS, PROMPTS[::-1], PROMPTS[1:], [*PROMPTS, "x"])}
    assert len(digests) == 4


@pytest.mark.filterwarnings("ignore:truncated")
@pytest.mark.parametrize(
    "prompts", [["a cat"], ["word " * 20_000], ["x" * 100_000], [""], ["\U0001f600 \x00 \u202e é"]]
)
def test_one_prompt_of_any_kind_is_harvested(emblem, tmp_path, prompts):
    tower = TextTower.from_pipeline(emblem)
    data = harvest(tower, prompts, tmp_path)
    assert same_bits(data.x, tower.encode(prompts).half())


def test_cut_prompts_of_many_chunks_are_told_once(tower):
    with pytest.warns(UserWarning, match=r"truncated to 16 tokens: .* and 7 more") as told:
        TokenBlocks(tower, [f"prompt {i} is too long for this" for i in range(10)], chunk=2)
    assert len(told) == 1


def test_no_prompts_are_refused(tower, tmp_path):
    with pytest.raises(SnceError, match="no prompts"):
        harvest(tower, [], tmp_path)
