"""Dialogues as rows of token ids: the chat format, the weight of each position, and packing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from .dialogues import Dialogue, Turn, dialogue, drill
from .tokenizer import BOS, END, START

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WANTED_WEIGHT: Final = 2.5
_DRILLED: Final = 0.15
_BINS: Final = 16
_Row = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Batch:
    """Token ids, who may look at whom, the positions to learn from, and the targets and weights there."""

    ids: Tensor
    mask: Tensor
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
        """Return the ids of an answer and its end, and their weights: more on the tokens of the asked words."""
        encoded = self._tokenizer.encode(turn.answer, add_special_tokens=False)
        spans = [
            (m.start(), m.end()) for w in turn.wanted for m in re.finditer(re.escape(w), turn.answer, re.IGNORECASE)
        ]
        asked = [any(start < right and end > left for left, right in spans) for start, end in encoded.offsets]
        weights = [_WANTED_WEIGHT if one else 1.0 for one in asked]
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


def _packed(source: Iterator[_Row], room: int) -> Iterator[list[_Row]]:
    """Yield lists of whole dialogues that together have at most `room` ids, with little room left over."""
    bins: list[list[_Row]] = [[] for _ in range(_BINS)]
    used = [0] * _BINS
    for row in source:
        if len(row[0]) > room:
            continue
        fitting = [i for i in range(_BINS) if used[i] + len(row[0]) <= room]
        place = max(fitting or range(_BINS), key=used.__getitem__)
        if not fitting:
            yield bins[place]
            bins[place], used[place] = [], 0
        bins[place].append(row)
        used[place] += len(row[0])


def _batch(rows: list[list[_Row]], room: int, pad: int) -> Batch:
    ids = torch.full((len(rows), room), pad)
    weights = torch.zeros((len(rows), room))
    part = torch.full((len(rows), room), -1)
    for i, row in enumerate(rows):
        at = 0
        for number, (piece, worth) in enumerate(row):
            end = at + len(piece)
            ids[i, at:end] = torch.tensor(piece)
            weights[i, at:end] = torch.tensor(worth)
            part[i, at:end] = number
            at = end
    part = part[:, :-1]
    mask = (part[:, None, :, None] == part[:, None, None, :]).tril()
    keep = weights[:, 1:] > 0
    return Batch(ids[:, :-1], mask, keep, ids[:, 1:][keep], weights[:, 1:][keep])


def batches(encoder: Encoder, seed: int, rows: int, context: int, stages: tuple[int, int]) -> Iterator[Batch]:
    """Yield batches of rows full of whole dialogues: first drills, then short ones and some drills, then all.

    `stages` are the numbers of the batches after which the drills and the short ones end.
    """
    rng = Random(seed)
    made = 0

    def source() -> Iterator[_Row]:
        while True:
            drilled = made < stages[0] or (made < stages[1] and rng.random() < _DRILLED)
            yield encoder.encode(drill(rng) if drilled else dialogue(rng, short=made < stages[1]))

    packed = _packed(source(), context + 1)
    while True:
        yield _batch([next(packed) for _ in range(rows)], context + 1, encoder.bos)
        made += 1
