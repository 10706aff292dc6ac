"""Harvesting: the same embeddings with and without a cache, through interruptions."""

import pytest
import torch

from snce.errors import SnceError
from snce.text.harvest import Embeddings, harvest
from snce.text.towers import TextTower
from tests.examples import PROMPTS, same_bits, tiny_pipeline
from tests.text.breaking import BreakingTower, file_of


def test_embeddings_are_those_of_the_tower_in_the_order_of_the_prompts(tower):
    data = harvest(tower, PROMPTS, batch_size=3)
    torch.testing.assert_close(data.x, tower.encode(PROMPTS), rtol=1e-5, atol=1e-5)
    assert torch.equal(data.kinds, tower.kinds(tower.tokenize(PROMPTS)))
    assert len(data) == len(PROMPTS)


def test_the_cache_holds_the_same_numbers_as_float16(tower, tmp_path):
    plain, cached = harvest(tower, PROMPTS, batch_size=3), harvest(tower, PROMPTS, tmp_path, batch_size=3)
    assert same_bits(cached.x, plain.x.half())
    assert torch.equal(cached.kinds, plain.kinds)


def test_a_complete_cache_is_read_and_not_computed_again(tower, tmp_path):
    first = harvest(tower, PROMPTS, tmp_path, batch_size=3)
    again = harvest(BreakingTower(tower, 0), PROMPTS, tmp_path, batch_size=5)
    assert same_bits(again.x, first.x)


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_an_interrupted_harvest_goes_on_where_it_stopped_and_gives_the_same_bits(tower, tmp_path, batches):
    whole = harvest(tower, PROMPTS, tmp_path / "whole", batch_size=3)
    with pytest.raises(KeyboardInterrupt):
        harvest(BreakingTower(tower, batches), PROMPTS, tmp_path / "broken", batch_size=3)
    rest = BreakingTower(tower, 3 - batches)
    resumed = harvest(rest, PROMPTS, tmp_path / "broken", batch_size=3)
    assert rest.left == 0
    assert same_bits(resumed.x, whole.x)
    assert file_of(tmp_path / "broken").read_bytes() == file_of(tmp_path / "whole").read_bytes()


def test_other_prompts_encoders_and_places_have_files_of_their_own(tower, tmp_path):
    harvest(tower, PROMPTS, tmp_path)
    harvest(tower, PROMPTS[::-1], tmp_path)
    place = TextTower(tower.encoder, tower.tokenizer, "encoder.layers.0")
    for other in (TextTower.from_pipeline(tiny_pipeline(1)), place):
        assert same_bits(harvest(other, PROMPTS, tmp_path).x, harvest(other, PROMPTS).x.half())
    assert len(list(tmp_path.rglob("embeddings.npy"))) == 4


def test_changing_embeddings_in_memory_leaves_the_cache_alone(tower, tmp_path):
    data = harvest(tower, PROMPTS, tmp_path)
    before = file_of(tmp_path).read_bytes()
    data.x.zero_()
    assert file_of(tmp_path).read_bytes() == before


def test_a_cache_that_cannot_be_written_is_named(tower, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SnceError, match="file"):
        harvest(tower, PROMPTS, file)


@pytest.mark.parametrize("cached", [True, False])
def test_numbers_that_are_not_finite_are_refused(pipe, tmp_path, cached):
    with torch.no_grad():
        pipe.text_encoder.get_submodule("final_layer_norm").weight[0] = float("nan")
    with pytest.raises(SnceError, match="NaN"):
        harvest(TextTower.from_pipeline(pipe), PROMPTS, tmp_path if cached else None)


def test_numbers_that_float16_cannot_hold_are_refused_by_the_cache(pipe, tmp_path):
    with torch.no_grad():
        pipe.text_encoder.get_submodule("final_layer_norm").weight[0] = 1e6
    tower = TextTower.from_pipeline(pipe)
    assert harvest(tower, PROMPTS).x.abs().max() > 1e5
    with pytest.raises(SnceError, match="float16"):
        harvest(tower, PROMPTS, tmp_path)


def test_no_prompts_are_refused(tower):
    with pytest.raises(SnceError, match="no prompts"):
        harvest(tower, [])


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("cached", [True, False])
def test_a_batch_of_nothing_is_refused(tower, tmp_path, size, cached):
    with pytest.raises(SnceError, match=f"batch_size = {size} must be at least 1"):
        harvest(tower, PROMPTS, tmp_path if cached else None, batch_size=size)
    assert not list(tmp_path.iterdir())


def test_a_prompt_that_is_cut_is_named(tower):
    with pytest.warns(UserWarning, match="truncated to 16 tokens: 'a prompt that goes on and on'"):
        harvest(tower, ["a cat", "a prompt that goes on and on"])


def test_embeddings_and_kinds_must_fit():
    with pytest.raises(SnceError, match="kinds"):
        Embeddings(torch.zeros(2, 3, 4), torch.zeros(2, 4))
    with pytest.raises(SnceError, match="kinds"):
        Embeddings(torch.zeros(2, 3), torch.zeros(2, 3))
