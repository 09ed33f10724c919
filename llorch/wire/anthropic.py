"""Bodies of Anthropic's Messages API, as far as llorch speaks it. No I/O.

Source: https://docs.anthropic.com/en/api/messages and /en/api/messages-streaming. Fields that are not here are
ignored; fields that are here and cannot be honoured are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from llorch.wire.errors import ErrorBody
from llorch.wire.tasks import Stop

StopReason = Literal["end_turn", "max_tokens", "stop_sequence"]


class Block(msgspec.Struct, frozen=True):
    """One part of a message; only text can be given to a model that reads text."""

    type: str
    text: str = ""


class Turn(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class CountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/messages/count_tokens`, and what a message has in common with it."""

    model: Annotated[str, Meta(min_length=1, max_length=1024)]
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=4096)]
    system: str | list[Block] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[Stop], Meta(max_length=4)] | None = None
    stream: bool | None = None


class TokensCounted(msgspec.Struct, frozen=True):
    """How many tokens a request would be."""

    input_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """Tokens of the prompt and of the answer."""

    input_tokens: int
    output_tokens: int


class TextBlock(msgspec.Struct, frozen=True):
    """What the model said."""

    text: str
    type: Literal["text"] = "text"


class MessageReply(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, or its beginning in a stream."""

    id: str
    model: str
    content: list[TextBlock]
    usage: Usage
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    role: Literal["assistant"] = "assistant"
    type: Literal["message"] = "message"


class MessageError(ErrorBody, frozen=True, kw_only=True):
    """What went wrong: llorch's own error, and its kind in Anthropic's words."""

    type: str


class MessageErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer from status 400 upwards on `/v1/messages`."""

    error: MessageError
    type: Literal["error"] = "error"
