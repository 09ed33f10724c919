"""The byte-level BPE tokenizer of the demo model: a word costs the same tokens wherever it stands.

No merge joins a space to a word of the vocabulary, so "moss", " moss" and "'moss'" all hold the same word tokens and
the model can copy an asked word token by token. Only common function words have a token with their leading space.
Characters outside ASCII are several byte tokens on purpose.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from .words import LEMMAS, NUMBERS, VOCABULARY

BOS: Final = "<s>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
SPECIALS: Final = (BOS, START, END)
_BPE_SIZE: Final = 1850
_SPACED: Final = 150
_SPACE: Final = "Ġ"
_PIECE: Final = re.compile(r" ?[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]+")


def _pieces(texts: Iterable[str]) -> Counter[str]:
    """Count the ASCII words (a leading space kept) and marks of the texts."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(piece for piece in _PIECE.findall(text) if piece.isascii())
    return found


def _learn(found: Counter[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    counts: Counter[str] = Counter()
    for piece, count in found.items():
        counts[piece.strip()] += count
    for word in VOCABULARY:
        counts[word] += 60 if word in LEMMAS else 25
    for word in LEMMAS:
        counts[word.capitalize()] += 4
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=_BPE_SIZE,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    corpus = (word for word, count in sorted(counts.items()) for _ in range(max(1, round(count**0.75))))
    core.train_from_iterator(corpus, trainer)
    data = json.loads(core.to_str())["model"]
    return data["vocab"], [(left, right) for left, right in data["merges"]]


def train(texts: Iterable[str]) -> Tokenizer:
    """Learn the tokenizer from the texts (deterministic)."""
    found = _pieces(texts)
    vocab, merges = _learn(found)
    content = set(VOCABULARY) | set(NUMBERS)
    spaced = [p[1:] for p, _ in sorted(found.items(), key=lambda kv: (-kv[1], kv[0])) if p[0] == " " and len(p) > 1]
    kept = [w for w in spaced if w in vocab and w not in content and not content & set(w.split("-"))][:_SPACED]
    for word in kept:
        vocab[_SPACE + word] = len(vocab)
        merges.append((_SPACE, word))
    return build(vocab, merges)


def build(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """Return the tokenizer of a vocabulary and its merges."""
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer
