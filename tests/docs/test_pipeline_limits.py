"""What docs/pipelines says of embeddings that are handed over, of encoders alone, of compiled encoders."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionXLImg2ImgPipeline

from snce.errors import SnceError
from snce.text.towers import TextTower
from tests.docs.pages import read, run
from tests.examples import same_bits
from tests.pipelines.families import FAMILIES
from tests.pipelines.rows import NEGATIVES, PROMPTS, received_rows
from tests.pipelines.test_erasing import eraser_of


def encoded(pipe):
    return pipe.encode_prompt(prompt=list(PROMPTS), device=torch.device("cpu"))


@pytest.mark.parametrize(("family", "begin"), [("PixArtSigma", None), ("QwenImage", 0)])
def test_raw_embeddings_with_a_mask_are_edited_as_attached(family, begin):
    pipe = FAMILIES[f"{family}Pipeline"](0)
    eraser = eraser_of(pipe)
    x, mask, *_ = encoded(pipe)
    with eraser.attach(pipe):
        expected = encoded(pipe)[0]
    assert same_bits(eraser.edit(x, mask=mask.bool(), begin=begin), expected)
    assert not same_bits(x, expected)


def test_raw_embeddings_of_flux_are_edited_each_by_its_part():
    pipe = FAMILIES["FluxPipeline"](0)
    pipe.tokenizer_max_length = 16
    eraser = eraser_of(pipe)
    options = {"prompt": list(PROMPTS), "prompt_2": None, "device": torch.device("cpu"), "max_sequence_length": 64}
    x, pooled, _ = pipe.encode_prompt(**options)
    with eraser.attach(pipe):
        expected, expected_pooled, _ = pipe.encode_prompt(**options)
    clip, t5 = eraser.parts
    assert same_bits(t5.edit(x), expected)
    assert same_bits(clip.edit(pooled[:, None])[:, 0], expected_pooled)
    assert not same_bits(pooled, expected_pooled)
    with eraser.attach(pipe, guard=True), pytest.raises(SnceError, match="prompt_embeds is refused"):
        pipe(prompt_embeds=x, pooled_prompt_embeds=pooled)


def test_prompts_are_read_alike_without_the_denoiser(tmp_path):
    pipe = FAMILIES["FluxPipeline"](0)
    pipe.save_pretrained(tmp_path)
    encoders = FluxPipeline.from_pretrained(tmp_path, transformer=None, vae=None)
    for whole, alone in zip(TextTower.all_of(pipe), TextTower.all_of(encoders), strict=True):
        assert same_bits(whole.encode(PROMPTS), alone.encode(PROMPTS))
        assert whole.fingerprint == alone.fingerprint


def test_rounded_weights_are_those_of_another_encoder():
    pipe = FAMILIES["FluxPipeline"](0)
    before = [tower.fingerprint for tower in TextTower.all_of(pipe)]
    assert before == [tower.fingerprint for tower in TextTower.all_of(pipe.to(torch.float16))]
    rounded = FAMILIES["FluxPipeline"](0).to(torch.bfloat16)
    assert not {*before} & {tower.fingerprint for tower in TextTower.all_of(rounded)}


def test_another_length_gives_other_embeddings_where_t5_is_not_told_what_is_padding():
    pipe = FAMILIES["FluxPipeline"](0)
    short, long = (TextTower.all_of(pipe, max_sequence_length=n)[1].encode(PROMPTS) for n in (32, 64))
    assert (short - long[:, :32]).abs().max() > 0.01
    pipe = FAMILIES["WanPipeline"](0)
    short, long = (TextTower.from_pipeline(pipe, max_sequence_length=n).encode(PROMPTS) for n in (32, 64))
    torch.testing.assert_close(short[:, :4], long[:, :4], rtol=1e-4, atol=1e-4)  # of the shortest prompt's tokens


def test_sana_can_be_read_without_its_instruction():
    pipe = FAMILIES["SanaPipeline"](0)
    assert TextTower.from_pipeline(pipe).begin > 1000
    plain = TextTower.from_pipeline(pipe, complex_human_instruction=None)
    assert plain.begin == 1
    assert plain.positions == 300


def test_a_pipeline_made_from_another_has_its_negative_prompts_edited_too():
    pipe = FAMILIES["StableDiffusionXLPipeline"](0)
    other = StableDiffusionXLImg2ImgPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    eraser = eraser_of(pipe, loud=NEGATIVES[0], silent=NEGATIVES[1])
    _, plain = received_rows(other)
    with eraser.attach(pipe):
        _, followed = received_rows(other)
        with eraser.attach(other):
            _, told_apart = received_rows(other)
    key = "encoder_hidden_states"
    assert not same_bits(followed[key][0], plain[key][0])
    assert same_bits(told_apart[key][0], plain[key][0])


@pytest.fixture
def dynamo():
    """Nothing is compiled before the test or left behind by it: graphs are shared by all encoders of a class."""
    import torch._dynamo.config as config

    before = config.skip_nnmodule_hook_guards
    torch.compiler.reset()
    yield config
    config.skip_nnmodule_hook_guards = before
    torch.compiler.reset()


def compile_encoder(pipe, in_place: bool) -> None:
    if in_place:
        pipe.text_encoder.compile(backend="eager")
    else:
        pipe.text_encoder = torch.compile(pipe.text_encoder, backend="eager")


def embeddings(pipe):
    return received_rows(pipe)[0]["encoder_hidden_states"][0]


@pytest.mark.parametrize(("guarded", "in_place"), [(False, True), (True, True), (False, False)])
def test_an_encoder_that_was_compiled_before_attaching_is_edited_or_refused(dynamo, in_place, guarded):
    dynamo.skip_nnmodule_hook_guards = not guarded
    pipe = FAMILIES["StableDiffusionPipeline"](0)
    eraser = eraser_of(pipe)
    compile_encoder(pipe, in_place)
    plain = embeddings(pipe)
    with eraser.attach(pipe):
        if guarded:
            assert not same_bits(embeddings(pipe), plain)
        else:
            with pytest.raises(SnceError, match="the eraser was not reached"):
                embeddings(pipe)
    assert same_bits(embeddings(pipe), plain)


@pytest.mark.parametrize("guarded", [False, True])
def test_a_graph_of_another_encoder_is_not_used_in_silence(dynamo, guarded):
    dynamo.skip_nnmodule_hook_guards = not guarded
    other, pipe = FAMILIES["StableDiffusionPipeline"](1), FAMILIES["StableDiffusionPipeline"](0)
    plain, eraser = embeddings(pipe), eraser_of(pipe)
    compile_encoder(other, in_place=True)
    embeddings(other)
    with eraser.attach(pipe):
        compile_encoder(pipe, in_place=True)
        if guarded:
            assert not same_bits(embeddings(pipe), plain)
        else:
            with pytest.raises(SnceError, match="the eraser was not reached"):
                embeddings(pipe)


def test_detaching_restores_an_encoder_that_was_compiled_after_attaching(dynamo):
    pipe = FAMILIES["StableDiffusionPipeline"](0)
    plain = embeddings(pipe)
    attachment = eraser_of(pipe).attach(pipe)
    compile_encoder(pipe, in_place=False)
    assert not same_bits(embeddings(pipe), plain)
    attachment.detach()
    assert same_bits(embeddings(pipe), plain)


def test_the_index_says_how_hooks_are_guarded(dynamo):
    assert dynamo.skip_nnmodule_hook_guards
    run(read("pipelines/README.md", {}))
    assert not dynamo.skip_nnmodule_hook_guards
