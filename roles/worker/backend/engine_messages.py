"""What crosses the pipes between the worker and an engine process of ours: one JSON object a line. Types only."""

from __future__ import annotations

from typing import Any

import msgspec

from llorch.errors import LlorchError
from llorch.wire.conversation import TokenLogprob
from llorch.wire.events import StopReason


class AskTokens(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tokenise: exactly one of *text* and *messages*, then *behind*, which a model wrote."""

    id: int
    text: str = ""
    messages: list[dict[str, Any]] = []
    behind: str = ""


class AskText(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Generate behind *tokens*; the rules are those of `torch_sampling.Rules`."""

    id: int
    tokens: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: dict[int, float]
    seed: int
    top_logprobs: int


class Drop(msgspec.Struct, frozen=True, tag=True):
    """Stop generating; answered by `Dropped`."""

    id: int


class Loading(msgspec.Struct, frozen=True, tag=True):
    """So much of the model is loaded."""

    percent: float


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded; `quant_kind` is how its file stores its numbers, where only the process knows."""

    context_length: int
    vocab_size: int
    memory_bytes: int
    quant_kind: str = ""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """What was asked for cannot be; *error* is the name of its class in `llorch.errors`. Without *id*, the load."""

    error: str
    message: str
    details: dict[str, Any] = {}
    id: int | None = None


class Tokens(msgspec.Struct, frozen=True, tag=True):
    """The answer to `AskTokens`."""

    id: int
    tokens: list[int]


class Piece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one step added to a text; see `Chunk`."""

    id: int
    text: str = ""
    count: int = 0
    stop: StopReason | None = None
    read: int = 0
    prompt: int = 0
    cached: int = 0
    ids: list[int] = []
    logprobs: list[TokenLogprob] = []


class Pieces(msgspec.Struct, frozen=True, tag=True):
    """What one step added to all texts."""

    pieces: list[Piece]


class Dropped(msgspec.Struct, frozen=True, tag=True):
    """A text's slot is free, and nothing more will come of it."""

    id: int


Asked = AskTokens | AskText | Drop
Told = Loading | Ready | Refused | Tokens | Pieces | Dropped


def refused(error: LlorchError, id: int | None = None) -> Refused:
    """Return an error as a line."""
    return Refused(type(error).__name__, error.message, dict(error.details or {}), id)
