"""Step 4a: Emblem's own CLIP vocabulary: byte-level BPE learned on its captions, so that common words are one token."""

from __future__ import annotations

import json
import random

from tokenizers import Regex as Pattern
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from snce.emblem import captions

from .paths import TEXT_ENCODER, VOCABULARY

MAX_LENGTH = 32
VOCABULARY_SIZE = 2048
SPLIT = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""CLIP's own pre-tokenisation; CLIPTokenizer applies the same when it loads the vocabulary."""


def corpus(n: int = 200_000) -> list[str]:
    vocabulary = json.loads(VOCABULARY.read_text())
    names = [word for name, item in vocabulary["objects"].items() for word in (name, *item["synonyms"])]
    rng = random.Random(0)
    texts = []
    for _ in range(n):
        style = rng.choice([None, *vocabulary["styles"]])
        background = rng.choice([None, *captions.BACKGROUNDS])
        if rng.random() < 0.1:
            texts.append(captions.anchor(rng, style, background))
        else:
            texts.append(captions.pair(rng.choice(names), rng.choice(names), rng, style, background))
            texts.append(captions.single(rng.choice(names), rng, style, background))
    return texts


def main() -> None:
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>", fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Pattern(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Pattern(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 2, initial_alphabet=alphabet, end_of_word_suffix="</w>", min_frequency=2
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    vocab = dict(sorted(learned["vocab"].items(), key=lambda item: item[1]))
    for character in alphabet:  # every byte may also end a word
        vocab.setdefault(f"{character}</w>", len(vocab))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    clip = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_LENGTH)
    clip.save_pretrained(TEXT_ENCODER / "tokenizer")
    reloaded = CLIPTokenizer.from_pretrained(TEXT_ENCODER / "tokenizer")
    print(
        len(vocab),
        [reloaded.tokenize(t) for t in ("a red apple and a cigarette", "Ünïcode xylophone 🍎", "japanese castle")],
    )


if __name__ == "__main__":
    main()
