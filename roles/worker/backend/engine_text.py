"""One text in an engine process of ours: what was asked for, by which rules, and what each step adds. Pure.

Strategy: a draw depends on the seed and on the token's place in its text alone. A text that is continued elsewhere, by
its ids, goes on as it would have, as far as the scores are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from roles.worker.backend.engine_messages import AskText


@dataclass(frozen=True, slots=True)
class Rules:
    """How the next token is chosen; neutral values leave the model's own distribution alone.

    `top_logprobs` below 0 asks for none at all, 0 for that of the chosen token alone.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] | None = None
    seed: int = 0
    top_logprobs: int = -1

    @property
    def plain(self) -> bool:
        """Whether the likeliest token of the model itself is what is asked for, and nothing about it."""
        penalised = self.repetition_penalty not in {0.0, 1.0} or self.frequency_penalty or self.presence_penalty
        return self.temperature == 0 and not penalised and not self.logit_bias and self.top_logprobs < 0


@dataclass(slots=True)
class Text:
    """One text on its way; `tokens` is the prompt and what was generated, `read` how many of them the cache holds.

    `cached` is how many it held before the text came.
    """

    id: int
    tokens: list[int]
    rules: Rules
    left: int
    prompt: int = 0
    slot: int = -1
    read: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a text in one step: so much of its prompt was read, or a token came, with its chances."""

    id: int
    read: int = 0
    prompt: int = 0
    cached: int = 0
    token: int | None = None
    chance: float | None = None
    others: list[tuple[int, float]] = field(default_factory=list)
    stop: Literal["eos", "max_tokens"] | None = None


def draw(seed: int, place: int) -> float:
    """Return a number from 0 to below 1 for one place of a text."""
    digest = hashlib.blake2b(f"{seed}:{place}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def text_of(asked: AskText) -> Text:
    """Return the text that is asked for, with nothing of it read."""
    rules = Rules(
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        min_p=asked.min_p,
        repetition_penalty=asked.repetition_penalty,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        logit_bias=asked.logit_bias,
        seed=asked.seed,
        top_logprobs=asked.top_logprobs,
    )
    return Text(asked.id, asked.tokens, rules, asked.max_tokens)
