"""The byte-level BPE tokenizer of the demo model: every word that it uses is one token, wherever it stands.

No merge joins a space to a word of the vocabulary, so "moss", " moss" and "'moss'" all hold the same token and the
model copies an asked word by copying one token. The words between them have a token with their leading space.
Everything else is spelled out of smaller tokens, down to single bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from .words import NUMBERS, SYLLABLES, VOCABULARY

BOS: Final = "<s>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
SPECIALS: Final = (BOS, START, END)
_SIZE_LIMIT: Final = 4000
_SPACED: Final = 160
_OFTEN: Final = 20
_MARKS: Final = ("—", "…")
_SPACE: Final = "Ġ"
_PIECE: Final = re.compile(r" ?[A-Za-z]+| ?—|…|[^\sA-Za-z0-9…—]+")


def _pieces(texts: Iterable[str]) -> Counter[str]:
    """Count the ASCII words (a leading space kept) and the marks of the texts."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(piece for piece in _PIECE.findall(text) if piece.isascii() or piece.strip() in _MARKS)
    return found


def _spelled(word: str) -> str:
    """Return a word as the vocabulary spells it: one character for each of its bytes."""
    ((spelled, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
    return str(spelled)


def _learn(whole: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the smallest vocabulary and merges of byte-pair encoding in which each of the words is one token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE_LIMIT,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(whole, trainer)
    data = json.loads(core.to_str())["model"]
    return data["vocab"], [(left, right) for left, right in data["merges"]]


def train(texts: Iterable[str]) -> Tokenizer:
    """Learn the tokenizer from the texts (deterministic)."""
    found = _pieces(texts)
    counts: Counter[str] = Counter()
    for piece, count in found.items():
        counts[piece.strip()] += count
    content = {part for word in (*VOCABULARY, *NUMBERS) for part in word.split("-")}
    often = {piece for piece, count in counts.items() if count >= _OFTEN and piece.lower() not in content}
    vocab, merges = _learn(sorted(content | often | set(SYLLABLES)))
    spaced = [p[1:] for p, _ in sorted(found.items(), key=lambda kv: (-kv[1], kv[0])) if p[0] == " "]
    for word in [_spelled(w) for w in spaced if w in often][:_SPACED]:
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
