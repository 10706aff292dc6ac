"""Tokenizers of the real classes, with small vocabularies that are made here: nothing is downloaded."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, GemmaTokenizer, Qwen2Tokenizer, RobertaTokenizer, T5Tokenizer
from transformers.processing_utils import ProcessorMixin

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTES = sorted(ByteLevel.alphabet())

QWEN_WORDS = (
    "system user assistant Describe the image by detailing color, shape, size, texture, quantity, text, spatial "
    "relationships of objects and background: a red cat two dogs green tea blue sky hat owl rain pistol think"
)
"""Words of one token each. Those of Qwen-Image's template must be: the pipeline drops a fixed number of tokens."""

QWEN_CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""Qwen3's, as far as one message without tools goes."""

MISTRAL_CHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '[SYSTEM_PROMPT]' if m.role == 'system' else '[INST]' }}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{{ '[/SYSTEM_PROMPT]' if m.role == 'system' else '[/INST]' }}{% endfor %}"
)
"""Mistral's, as far as text goes."""


def clip_tokenizer(pad: str = "<|endoftext|>", positions: int = 16) -> CLIPTokenizer:
    """A byte is a token. `pad` is "!" (id 0) for the second tokenizer of SDXL and SD3, as in the released ones."""
    rest = sorted({*BYTES, *(f"{c}</w>" for c in BYTES)} - {"!"})
    tokens = ["!", *rest, "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], pad_token=pad, model_max_length=positions)


def t5_tokenizer(positions: int = 512) -> T5Tokenizer:
    """Unigram pieces of one character; ends with </s>, pads on the right with <pad> (id 0)."""
    pieces = ["▁", *(chr(c) for c in range(33, 127))]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in pieces)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=positions)


def gemma_tokenizer() -> GemmaTokenizer:
    """A character is a token, others fall back to bytes; begins with <bos>, no end token, pads on the left."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokens = [*special, *(f"<0x{b:02X}>" for b in range(256)), "▁", "\n", *(chr(c) for c in range(33, 127))]
    tokenizer = GemmaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=8192)
    tokenizer.add_bos_token = True
    return tokenizer


def roberta_tokenizer(positions: int = 24) -> RobertaTokenizer:
    """A byte is a token; <s> ... </s>, pads on the right with <pad> (id 1)."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *BYTES, "<mask>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return RobertaTokenizer(vocab=vocab, merges=[], model_max_length=positions)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Bytes, and the words of QWEN_WORDS, with Qwen's chat template; pads on the right with <|endoftext|>."""
    vocab, merges = _qwen_words()
    tokenizer = Qwen2Tokenizer(vocab=dict(vocab), merges=list(merges), chat_template=QWEN_CHAT, model_max_length=4096)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]})
    return tokenizer


@cache
def _qwen_words() -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Vocabulary and merges of a byte-pair encoding to which each word, with a space or without, is one token."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = Qwen2Tokenizer(vocab={"<|endoftext|>": 0}, merges=[]).backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=0, show_progress=False, initial_alphabet=BYTES, special_tokens=["<|endoftext|>"]
    )
    words = [w.strip(",:") for w in QWEN_WORDS.split()]
    learner.train_from_iterator([*words, *(f" {w}" for w in words)], trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return learner.get_vocab(), tuple((left, right) for left, right in merges)


class TextProcessor(ProcessorMixin):
    """The text half of a processor: `transformers.PixtralProcessor` needs torchvision, which a prompt does not."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template: str | None = None) -> None:
        super().__init__(tokenizer, chat_template=chat_template)


def mistral_processor() -> TextProcessor:
    """A byte is a token; the template begins with <s>; pads on the left, as Mistral Small does."""
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    tokens = [*special, *BYTES]
    tokenizer = Qwen2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], unk_token="<unk>",
                               bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left",
                               model_max_length=4096)  # fmt: skip
    brackets = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]"]
    tokenizer.add_special_tokens({"additional_special_tokens": brackets})
    return TextProcessor(tokenizer, MISTRAL_CHAT)
