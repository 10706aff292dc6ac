"""Erasers of several towers on CONDITIONING: each part edits what ComfyUI has of its own encoder, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snce.erase.compose import compose
from snce.errors import SnceError
from snce.integrations.comfyui import ConceptActivation
from snce.integrations.conditioning import edit_conditioning, read_conditioning, scaled
from snce.integrations.places import columns, places_of
from snce.integrations.regions import WIDTHS
from tests.examples import random_eraser, same_bits
from tests.pipelines.families import FAMILIES
from tests.pipelines.rows import received_rows
from tests.pipelines.test_erasing import eraser_of

POSITIONS = 16  # of CLIP in the tiny pipelines
TENSORS = {
    "StableDiffusionPipeline": ("encoder_hidden_states", None),
    "StableDiffusionXLPipeline": ("encoder_hidden_states", "added_cond_kwargs.text_embeds"),
    "StableDiffusion3Pipeline": ("encoder_hidden_states", "pooled_projections"),
    "FluxPipeline": ("encoder_hidden_states", "pooled_projections"),
}
"""Where the denoiser of a pipeline receives what a conditioning holds."""
families = pytest.mark.parametrize("name", TENSORS)
built = cache(lambda name: FAMILIES[name](0))

CLIP_L, CLIP_G = places_of("StableDiffusionXL").tokens
(POOLED_G,) = places_of("StableDiffusionXL").pooled
(T5,), (POOLED_L,) = places_of("Flux")
*_, T5_OF_3 = places_of("StableDiffusion3").tokens
POOLED_L_OF_3, _ = places_of("StableDiffusion3").pooled


def entry(name, rows, i=slice(None)):
    """The conditioning of prompt `i`, or of both, of what a denoiser receives for them."""
    embeddings, pooled = (None if argument is None else torch.stack(rows[argument])[i] for argument in TENSORS[name])
    return [embeddings, {} if pooled is None else {"pooled_output": pooled}]


def part_at(place, seed=0, width=None):
    """A random eraser of one tower at its real width, which fires on about everything."""
    tower, _, module = place.partition(".")
    eraser = random_eraser(seed, "gun", d=width or WIDTHS[place])
    neurons = eraser.neurons._replace(bias=torch.full((2,), 3.0))
    return replace(eraser, neurons=neurons, tower=tower, module=module, begin=int("hidden_states" in place))


def real(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def xl_entry(chunks=1):
    return [real(1, 77 * chunks, 2048), {"pooled_output": real(1, 1280, seed=1), "width": 1024}]


def three_entry(clip=77, t5=77):
    x = real(1, clip + t5, 4096)
    x[:, :clip, 2048:] = 0
    return [x, {"pooled_output": real(1, 2048, seed=1)}]


@families
def test_a_conditioning_becomes_what_the_denoiser_receives_with_the_attached_eraser(name):
    pipe = built(name)
    eraser = eraser_of(pipe)  # loud on the first prompt, silent on the second
    plain, _ = received_rows(pipe)
    with eraser.attach(pipe):
        rows, _ = received_rows(pipe)
    before, expected = entry(name, plain), entry(name, rows)
    [edited] = edit_conditioning([before], eraser, chunk=POSITIONS)
    assert same_bits(edited[0], expected[0])
    assert not torch.equal(edited[0], before[0])
    for option, tensor in expected[1].items():
        assert same_bits(edited[1][option], tensor)
        assert not torch.equal(tensor, before[1][option])
    silent = entry(name, plain, slice(1, 2))
    [kept] = edit_conditioning([silent], eraser, chunk=POSITIONS)
    assert kept[0] is silent[0]
    assert all(kept[1][option] is tensor for option, tensor in silent[1].items())


@families
def test_every_part_is_read_and_tells_whether_it_fires(name):
    pipe = built(name)
    eraser = eraser_of(pipe)
    plain, _ = received_rows(pipe)
    for i in (0, 1):
        readings = read_conditioning([entry(name, plain, slice(i, i + 1))], eraser, chunk=POSITIONS)
        assert [reading.place for reading in readings] == [part.place for part in eraser.parts]
        assert [reading.fires for reading in readings] == [i == 0] * len(eraser.parts)
    report = ConceptActivation().read([entry(name, plain)], eraser, POSITIONS)["result"][3]
    for part, line in zip(eraser.parts, report.split("\n"), strict=True):
        where = f" in {part.place}" if len(eraser.parts) > 1 else ""
        assert line.startswith(f"concept{where}: ")


CASES = {
    "CLIP-L of SDXL": (CLIP_L, xl_entry(2), slice(None), slice(0, 768)),
    "CLIP-G of SDXL": (CLIP_G, xl_entry(2), slice(None), slice(768, 2048)),
    "pooled CLIP-G of SDXL": (POOLED_G, xl_entry(2), None, slice(None)),
    "CLIP-G of the refiner": (CLIP_G, [real(1, 154, 1280), {"pooled_output": real(1, 1280)}], slice(None), slice(None)),
    "T5 of FLUX": (T5, [real(1, 256, 4096), {"pooled_output": real(1, 768)}], slice(None), slice(None)),
    "pooled CLIP-L of FLUX": (POOLED_L, [real(1, 256, 4096), {"pooled_output": real(1, 768)}], None, slice(None)),
    "CLIP-L of SD3": (CLIP_L, three_entry(154, 100), slice(0, 154), slice(0, 768)),
    "CLIP-G of SD3": (CLIP_G, three_entry(154, 100), slice(0, 154), slice(768, 2048)),
    "T5 of SD3": (T5_OF_3, three_entry(154, 100), slice(154, None), slice(None)),
    "pooled CLIP-L of SD3": (POOLED_L_OF_3, three_entry(), None, slice(0, 768)),
    "pooled CLIP-G of SD3": (POOLED_G, three_entry(), None, slice(768, 2048)),
}
"""Place, conditioning, and where the tower stands in it: tokens (None: in the pooled output) and numbers."""


@pytest.mark.parametrize(("place", "given_", "tokens", "numbers"), CASES.values(), ids=CASES)
def test_a_part_edits_its_encoders_numbers_as_eraser_edit_does_and_leaves_all_others(place, given_, tokens, numbers):
    eraser = part_at(place)
    x, options = given_
    [[edited, kept]] = edit_conditioning([given_], eraser)
    if tokens is None:
        assert edited is x
        expected = options["pooled_output"].clone()
        expected[:, numbers] = eraser.edit(expected[:, None, numbers])[:, 0]
        assert same_bits(kept["pooled_output"], expected)
        assert not torch.equal(expected, options["pooled_output"])
        return
    assert kept["pooled_output"] is options["pooled_output"]
    mine = x[:, tokens, numbers]
    prompts = mine if eraser.begin == 0 else mine.reshape(-1, 77, mine.shape[-1])
    expected = x.clone()
    expected[:, tokens, numbers] = eraser.edit(prompts).reshape(mine.shape)
    assert same_bits(edited, expected)
    assert not torch.equal(expected, x)


def test_parts_together_edit_as_each_alone_in_any_order_and_nothing_is_modified_in_place():
    parts = [part_at(place, seed) for seed, place in enumerate((CLIP_L, CLIP_G, POOLED_G))]
    given_ = xl_entry()
    before = given_[0].clone(), dict(given_[1]), given_[1]["pooled_output"].clone()
    [[edited, options]] = edit_conditioning([given_], compose(parts))
    one_by_one = [given_]
    for part in reversed(parts):
        one_by_one = edit_conditioning(one_by_one, part)
    assert same_bits(edited, one_by_one[0][0])
    assert same_bits(options["pooled_output"], one_by_one[0][1]["pooled_output"])
    assert options["width"] == 1024
    assert same_bits(given_[0], before[0])
    assert given_[1] == before[1]
    assert same_bits(given_[1]["pooled_output"], before[2])


def test_strength_scales_every_part():
    eraser = compose([part_at(CLIP_L), part_at(CLIP_G), part_at(POOLED_G)])
    for part, half in zip(eraser.parts, scaled(eraser, 0.5).parts, strict=True):
        assert torch.equal(half.neurons.strength, part.neurons.strength * 0.5)
    given_ = xl_entry()
    [[same, options]] = edit_conditioning([given_], eraser, strength=0)
    assert same is given_[0]
    assert options["pooled_output"] is given_[1]["pooled_output"]


def test_encoders_that_are_not_loaded_have_nothing_to_erase():
    eraser = compose([part_at(place) for place in (CLIP_L, CLIP_G, POOLED_L_OF_3, POOLED_G, T5_OF_3)])
    without_t5, without_clips = three_entry(77, 0), three_entry(0, 77)
    without_clips[1]["pooled_output"] *= 0
    for given_, silent in ((without_t5, {T5_OF_3}), (without_clips, {p.place for p in eraser.parts} - {T5_OF_3})):
        readings = read_conditioning([given_], eraser)
        assert {reading.place for reading in readings if reading.activation == 0} == silent
        [[x, options]] = edit_conditioning([given_], eraser)
        assert not torch.equal(x, given_[0])
        assert (options["pooled_output"] is given_[1]["pooled_output"]) == (given_ is without_clips)


def test_a_conditioning_of_zeros_stays_as_it_is():
    eraser = compose([part_at(CLIP_L), part_at(POOLED_G)])  # their biases are above their thresholds
    zeros = [torch.zeros(1, 77, 2048), {"pooled_output": torch.zeros(1, 1280)}]
    [[x, options]] = edit_conditioning([zeros], eraser)
    assert x is zeros[0]
    assert options["pooled_output"] is zeros[1]["pooled_output"]
    assert not any(reading.fires for reading in read_conditioning([zeros], eraser))


@pytest.mark.parametrize(
    ("places", "given_", "message"),
    [
        ((CLIP_L, CLIP_G), [real(1, 77, 768), {}], r"width 2048 or .* but this .* width 768 \(Stable Diffusion 1\.x\)"),
        ((T5, POOLED_L), xl_entry(), r"width 4096 .* but this conditioning has width 2048 \(SDXL"),
        ((CLIP_L, T5), xl_entry(), r"last_hidden_state, and where ComfyUI puts that is not known"),
        ((CLIP_L, POOLED_G), [real(1, 77, 2048), {}], r"pooled output, too, .* \[prompts, 1280\] and is NoneType"),
        ((POOLED_G,), [real(1, 77, 2048), {"pooled_output": real(1, 768)}], r"and is \[1, 768\] here"),
        ((CLIP_L,), [real(1, 100, 2048), {}], r"100 tokens, which are not whole chunks of 77"),
    ],
)
def test_a_part_that_finds_no_place_is_refused_in_one_sentence(places, given_, message):
    eraser = compose([part_at(place) for place in places])
    for act in (edit_conditioning, read_conditioning):
        with pytest.raises(SnceError, match=message):
            act([given_], eraser)


def test_an_eraser_of_a_pipeline_that_comfyui_encodes_otherwise_is_refused():
    eraser = replace(part_at(CLIP_L, width=2560), module="output.hidden_states[9,18,27]", pipeline="Flux2KleinPipeline")
    with pytest.raises(SnceError, match=r"hidden_states\[9,18,27\], and where ComfyUI puts that is not known"):
        edit_conditioning([[real(1, 77, 2560), {}]], eraser)
    with pytest.raises(SnceError, match="width 2560"):  # Z-Image: the place of CLIP-L, but nothing beside it
        edit_conditioning([[real(1, 77, 2560), {}]], part_at(CLIP_L, width=2560))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(-1, 3), st.integers(-1, 3))
def test_columns_stand_side_by_side_and_make_up_the_width(sizes, missing, surplus):
    places = [str(i) for i in range(len(sizes))]
    widths = {place: size for i, (place, size) in enumerate(zip(places, sizes, strict=True)) if i != missing}
    found = columns(places, widths, sum(sizes) + surplus)
    rest = sum(sizes) + surplus - sum(widths.values())
    if rest < 0 if len(widths) < len(sizes) else rest != 0:
        assert found is None
        return
    assert found is not None
    assert list(found) == places
    assert all(found[place].stop - found[place].start == widths.get(place, rest) for place in places)
    edges = [(where.start, where.stop) for where in found.values()]
    assert edges[0][0] == 0
    assert edges[-1][1] == sum(sizes) + surplus
    assert all(a[1] == b[0] for a, b in pairwise(edges))
