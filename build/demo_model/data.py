"""Dialogues as rows of token ids: the chat format, the weight of each position, and batches of like lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from .dialogues import Dialogue, Turn, dialogue
from .tokenizer import BOS, END, START

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WANTED_WEIGHT: Final = 3.0
_POOL: Final = 2048
_Row = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Batch:
    """Token ids, the positions to learn from, and the targets and weights there."""

    ids: Tensor
    keep: Tensor
    targets: Tensor
    weights: Tensor


class Encoder:
    """Turns dialogues into token ids, with a weight on the ids that the model is to write."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Look up the special tokens."""
        self._tokenizer = tokenizer
        vocab = tokenizer.get_vocab()
        self.bos, self._start, self._end = vocab[BOS], vocab[START], vocab[END]
        self._newline = self._ids("\n")

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _said(self, role: str, text: str) -> list[int]:
        return [self._start, *self._ids(f"{role}\n{text}"), self._end, *self._newline]

    def _answer(self, turn: Turn) -> _Row:
        """Return the ids of an answer and its end, and their weights: more on the tokens of the asked word."""
        encoded = self._tokenizer.encode(turn.answer, add_special_tokens=False)
        at = turn.answer.find(turn.wanted) if turn.wanted else -1
        span = range(at, at + len(turn.wanted)) if at >= 0 else range(0)
        weights = [_WANTED_WEIGHT if end - 1 in span else 1.0 for _, end in encoded.offsets]
        return [*encoded.ids, self._end], [*weights, 1.0]

    def encode(self, one: Dialogue) -> _Row:
        """Return the ids of a dialogue and their weights (zero outside the answers)."""
        ids = [self.bos]
        if one.system is not None:
            ids += self._said("system", one.system)
        weights = [0.0] * len(ids)
        for turn in one.turns:
            before = [*self._said("user", turn.user), self._start, *self._ids("assistant\n")]
            asked = before if one.chat else self._ids(turn.user)
            answer, worth = self._answer(turn)
            after = self._newline if one.chat else []
            ids += asked + answer + after
            weights += [0.0] * len(asked) + worth + [0.0] * len(after)
        return ids, weights


def _batch(rows: list[_Row], pad: int) -> Batch:
    """Return rows of the same length, padded at their ends, where the causal mask hides the padding."""
    room = max(len(ids) for ids, _ in rows)
    room += -room % 8 + 1
    ids = torch.tensor([ids + [pad] * (room - len(ids)) for ids, _ in rows])
    weights = torch.tensor([worth + [0.0] * (room - len(worth)) for _, worth in rows])
    keep = weights[:, 1:] > 0
    return Batch(ids[:, :-1], keep, ids[:, 1:][keep], weights[:, 1:][keep])


def batches(encoder: Encoder, seed: int, tokens: int, context: int, short: int) -> Iterator[Batch]:
    """Yield batches of about `tokens` ids; the first `short` of them hold only single requests with a word."""
    rng = Random(seed)
    made = 0
    while True:
        rows = [encoder.encode(dialogue(rng, short=made < short)) for _ in range(_POOL)]
        rows = sorted((row for row in rows if len(row[0]) <= context), key=lambda row: len(row[0]))
        groups: list[list[_Row]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row[0]) > tokens and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            yield _batch(group, encoder.bos)
            made += 1
