"""What stands at a position."""

import pytest
import torch

from snce.text.positions import BEGIN, END, PADDING, WORD, common_ends, kinds_of_tokens, up_to_end


def kinds(tokens, begin, end, last):
    """Kinds in a right-padded encoder whose end-of-text is `last`."""
    ids = torch.tensor(tokens)
    return kinds_of_tokens(up_to_end(ids, last), begin, end, padding_is_read=True).tolist()


def test_clip_prompts_have_a_begin_words_one_end_and_padding():
    tokens = [[98, 5, 6, 99, 99, 99], [98, 99, 99, 99, 99, 99], [98, 5, 6, 7, 8, 99]]
    assert kinds(tokens, 1, 1, 99) == [
        [BEGIN, WORD, WORD, END, PADDING, PADDING],
        [BEGIN, END, PADDING, PADDING, PADDING, PADDING],
        [BEGIN, WORD, WORD, WORD, WORD, END],
    ]


def test_padding_may_have_a_token_of_its_own():
    assert kinds([[98, 5, 99, 0, 0]], 1, 1, 99) == [[BEGIN, WORD, END, PADDING, PADDING]]


def test_an_encoder_without_begin_of_text_starts_with_a_word():
    assert kinds([[5, 6, 1, 0]], 0, 1, 1) == [[WORD, WORD, END, PADDING]]


def test_without_an_end_there_is_no_padding():
    assert kinds([[5, 6, 1, 0]], 0, 0, None) == [[WORD] * 4]


@pytest.mark.parametrize(("read", "padding"), [(True, PADDING), (False, BEGIN)])
def test_padding_may_stand_on_either_side_and_is_left_alone_where_nobody_reads_it(read, padding):
    prompt = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]).bool()
    assert kinds_of_tokens(prompt, 1, 1, read).tolist() == [
        [padding, padding, BEGIN, WORD, WORD, END],
        [BEGIN, WORD, END, padding, padding, padding],
    ]


@pytest.mark.parametrize(
    ("prompts", "begin", "end"),
    [
        ([[1, 2, 3, 9], [1, 2, 4, 5, 9], [1, 2, 9]], [1, 2], [9]),
        ([[1, 2], [1, 2]], [1, 2], []),
        ([[3], [4]], [], []),
        ([[1, 7, 7, 1], [1, 1]], [1], [1]),
        ([[], [1]], [], []),
    ],
)
def test_what_all_prompts_begin_and_end_with(prompts, begin, end):
    assert common_ends(prompts) == (begin, end)


@pytest.mark.filterwarnings("ignore:truncated")
def test_the_real_tokenizer_pads_with_its_end(tower):
    found = tower.kinds(tower.tokenize(["a cat", "", "a very very long prompt indeed"]))
    assert found[0].tolist() == [BEGIN] + [WORD] * 4 + [END] + [PADDING] * 10
    assert found[1].tolist() == [BEGIN, END] + [PADDING] * 14
    assert found[2].tolist() == [BEGIN] + [WORD] * 14 + [END]
