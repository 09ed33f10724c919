"""Continuous batching: which slot reads what in the next step. Drives the model; speaks to nobody.

Strategy: a step reads at most one piece of one prompt, then one token in every slot that generates. So a long prompt
slows the others down and never stops them, and whoever leaves is gone after one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from roles.worker.backend.engine_text import Step, Text
from roles.worker.backend.torch_model import Model
from roles.worker.backend.torch_sampling import choose, likeliest


class Batching:
    """The slots of one model. Owned by one thread.

    Args:
        model: Loaded.
        slots: How many it has.
        piece: Tokens of a prompt that are read at once.
        reuse: Keep what a slot has read of the same beginning; faster, but not bit for bit the same.
    """

    def __init__(self, model: Model, *, slots: int, piece: int, reuse: bool) -> None:
        self._model = model
        self._piece = piece
        self._reuse = reuse
        self._eos = frozenset(model.shape.eos)
        self._waiting: list[Text] = []
        self._slots: list[Text | None] = [None] * slots
        self._held: list[list[int]] = [[] for _ in range(slots)]

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not any(self._slots)

    def add(self, text: Text) -> None:
        """Take a text; it waits for a slot."""
        text.prompt = len(text.tokens)
        text.left = min(text.left, self._model.ctx - text.prompt)
        self._waiting.append(text)

    def drop(self, text_id: int) -> None:
        """Forget a text; harmless when it is over."""
        self._waiting = [text for text in self._waiting if text.id != text_id]
        for text in self._slots:
            if text is not None and text.id == text_id:
                self._free(text)

    def step(self) -> Iterator[Step]:
        """Compute once; yield what came of it."""
        self._seat()
        running = [text for text in self._slots if text is not None]
        reading = next((text for text in running if text.read < text.prompt), None)
        generating = [text for text in running if text.read >= text.prompt]
        if reading is not None:
            yield from self._read(reading)
        if generating:
            yield from self._decode(generating)

    def _seat(self) -> None:
        """Give each waiting text the slot that remembers most of its beginning, the lowest of those."""
        for text in list(self._waiting):
            free = [slot for slot, taken in enumerate(self._slots) if taken is None]
            if not free:
                return
            same = {slot: _common(self._held[slot], text.tokens) if self._reuse else 0 for slot in free}
            text.slot = max(free, key=lambda slot: (same[slot], -slot))
            text.read = text.cached = min(same[text.slot], len(text.tokens) - 1)
            self._held[text.slot] = []
            self._slots[text.slot] = text
            self._waiting.remove(text)

    def _read(self, text: Text) -> Iterator[Step]:
        piece = text.tokens[text.read : text.read + self._piece]
        scores = self._model.read(text.slot, piece, text.read)
        text.read += len(piece)
        yield Step(text.id, read=text.read, prompt=text.prompt, cached=text.cached)
        if text.read == len(text.tokens):
            yield self._next(text, scores, None)

    def _decode(self, texts: list[Text]) -> Iterator[Step]:
        rows = max(text.slot for text in texts) + 1
        tokens: list[int | None] = [None] * rows
        places = [0] * rows
        for text in texts:
            tokens[text.slot], places[text.slot] = text.tokens[-1], text.read
        scores = self._model.decode(tokens, places)
        best = scores.argmax(-1).tolist() if any(text.rules.plain for text in texts) else []
        for text in texts:
            text.read += 1
            yield self._next(text, scores[text.slot], best[text.slot] if best else None)

    def _next(self, text: Text, scores: object, best: int | None) -> Step:
        rules = text.rules
        token = best if best is not None and rules.plain else choose(scores, rules, text.tokens)
        text.tokens.append(token)
        text.left -= 1
        chance, others = likeliest(scores, token, rules.top_logprobs) if rules.top_logprobs >= 0 else (None, [])
        ended = token in self._eos
        stop: Literal["eos", "max_tokens"] | None = "eos" if ended else "max_tokens" if text.left <= 0 else None
        if stop is not None:
            self._free(text)
        return Step(text.id, token=token, chance=chance, others=others, stop=stop)

    def _free(self, text: Text) -> None:
        self._slots[text.slot] = None
        self._held[text.slot] = text.tokens[: text.read]


def _common(one: list[int], other: list[int]) -> int:
    """Return how long the common beginning is."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
