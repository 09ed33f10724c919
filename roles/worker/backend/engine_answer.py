"""One text on its way out of an engine process of ours: tokens become whole characters, with their ids. Pure."""

from __future__ import annotations

import codecs
from typing import Protocol

from llorch.wire.conversation import TokenChance, TokenLogprob
from roles.worker.backend.engine_messages import Piece
from roles.worker.backend.engine_text import Step
from roles.worker.backend.llamacpp_options import LEAST_LOGPROB


class Words(Protocol):
    """What each token of a model stands for."""

    def bytes_of(self, token: int) -> bytes:
        """Return what a token stands for; nothing for special ones."""
        ...

    def told(self, token: int) -> tuple[str, list[int]]:
        """Return a token's text and bytes for a list of chances; special ones by their name."""
        ...


class Writing:
    """Turns one text's tokens into whole characters."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""

    def add(self, token: int) -> str | None:
        """Take a token; return the text that is whole now, or None while a character is unfinished."""
        self._text += self._decoder.decode(self._words.bytes_of(token))
        if self._decoder.getstate()[0]:
            return None
        text, self._text = self._text, ""
        return text

    def rest(self) -> str:
        """Return what was whole before a character that never was finished."""
        text, self._text = self._text, ""
        return text


class Answer:
    """Turns the steps of one text into pieces of it; ids wait until their characters are whole."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._writing = Writing(words)
        self._count = 0
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []

    def add(self, step: Step) -> Piece | None:
        """Return what a step adds; None while there is nothing to tell."""
        if step.token is None:
            return Piece(id=step.id, read=step.read, prompt=step.prompt, cached=step.cached)
        self._count += 1
        if step.stop == "eos":
            # The token that ends the text is not part of it: whoever goes on behind the ids comes to it again.
            return Piece(id=step.id, text=self._writing.rest(), count=self._count, stop="eos")
        text = self._writing.add(step.token)
        self._ids.append(step.token)
        if step.chance is not None:
            self._logprobs.append(self._told(step.token, step.chance, step.others))
        if text is None:
            if step.stop is None:
                return None
            return Piece(id=step.id, text=self._writing.rest(), count=self._count, stop=step.stop)
        ids, logprobs = self._ids, self._logprobs
        self._ids, self._logprobs = [], []
        return Piece(id=step.id, text=text, count=self._count, stop=step.stop, ids=ids, logprobs=logprobs)

    def _told(self, token: int, chance: float, others: list[tuple[int, float]]) -> TokenLogprob:
        text, data = self._words.told(token)
        top = []
        for other, logprob in others:
            other_text, other_data = self._words.told(other)
            top.append(TokenChance(other_text, max(logprob, LEAST_LOGPROB), other_data))
        return TokenLogprob(text, max(chance, LEAST_LOGPROB), data, top)
