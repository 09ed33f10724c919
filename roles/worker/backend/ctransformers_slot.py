"""The one slot of the engine ctransformers: its library computes one text at a time. Drives the model; tells nobody.

Strategy: a step reads one piece of a prompt, or one token. So whoever leaves is gone after one step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal, Protocol

from roles.worker.backend.ctransformers_sampling import Scores, choose, likeliest
from roles.worker.backend.engine_text import Step, Text


class Model(Protocol):
    """What computes."""

    ctx: int
    eos: frozenset[int]

    def read(self, tokens: list[int], place: int) -> Scores:
        """Compute tokens behind the first *place* ones; return the scores of what comes next."""
        ...


class Slot:
    """Texts one after the other. Owned by one thread.

    Args:
        model: Loaded.
        piece: Tokens of a prompt that are read at once.
    """

    def __init__(self, model: Model, *, piece: int) -> None:
        self._model = model
        self._piece = piece
        self._texts: deque[Text] = deque()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._texts

    def add(self, text: Text) -> None:
        """Take a text; it waits for those before it."""
        text.prompt = len(text.tokens)
        text.left = min(text.left, self._model.ctx - text.prompt)
        self._texts.append(text)

    def drop(self, text_id: int) -> None:
        """Forget a text; harmless when it is over."""
        self._texts = deque(text for text in self._texts if text.id != text_id)

    def step(self) -> Iterator[Step]:
        """Compute once; yield what came of it."""
        if not self._texts:
            return
        text = self._texts[0]
        piece = text.tokens[text.read : text.read + self._piece]
        scores = self._model.read(piece, text.read)
        text.read += len(piece)
        if text.read <= text.prompt:
            yield Step(text.id, read=text.read, prompt=text.prompt)
        if text.read == len(text.tokens):
            yield self._next(text, scores)

    def _next(self, text: Text, scores: Scores) -> Step:
        rules = text.rules
        token = choose(scores, rules, text.tokens)
        text.tokens.append(token)
        text.left -= 1
        chance, others = likeliest(scores, token, rules.top_logprobs) if rules.top_logprobs >= 0 else (None, [])
        ended = token in self._model.eos
        stop: Literal["eos", "max_tokens"] | None = "eos" if ended else "max_tokens" if text.left <= 0 else None
        if stop is not None:
            self._texts.popleft()
        return Step(text.id, token=token, chance=chance, others=others, stop=stop)
