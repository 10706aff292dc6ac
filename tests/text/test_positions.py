"""What stands at a position."""

from types import SimpleNamespace

import pytest
import torch

from snce.text.positions import BEGIN, END, PADDING, WORD, kinds_of_tokens

CLIP = SimpleNamespace(bos_token_id=98, eos_token_id=99)
T5 = SimpleNamespace(bos_token_id=None, eos_token_id=1)


def test_clip_prompts_have_a_begin_words_one_end_and_padding():
    tokens = torch.tensor([[98, 5, 6, 99, 99, 99], [98, 99, 99, 99, 99, 99], [98, 5, 6, 7, 8, 99]])
    assert kinds_of_tokens(tokens, CLIP).tolist() == [
        [BEGIN, WORD, WORD, END, PADDING, PADDING],
        [BEGIN, END, PADDING, PADDING, PADDING, PADDING],
        [BEGIN, WORD, WORD, WORD, WORD, END],
    ]


def test_padding_may_have_a_token_of_its_own():
    assert kinds_of_tokens(torch.tensor([[98, 5, 99, 0, 0]]), CLIP).tolist() == [[BEGIN, WORD, END, PADDING, PADDING]]


def test_an_encoder_without_begin_of_text_starts_with_a_word():
    assert kinds_of_tokens(torch.tensor([[5, 6, 1, 0]]), T5).tolist() == [[WORD, WORD, END, PADDING]]


@pytest.mark.filterwarnings("ignore:truncated")
def test_the_real_tokenizer_pads_with_its_end(tower):
    kinds = tower.kinds(tower.tokenize(["a cat", "", "a very very long prompt indeed"]))
    assert kinds[0].tolist() == [BEGIN] + [WORD] * 4 + [END] + [PADDING] * 10
    assert kinds[1].tolist() == [BEGIN, END] + [PADDING] * 14
    assert kinds[2].tolist() == [BEGIN] + [WORD] * 14 + [END]
