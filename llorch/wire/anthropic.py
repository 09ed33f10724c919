"""Bodies of Anthropic's Messages API, as far as llorch speaks it. No I/O.

Source: https://docs.anthropic.com/en/api/messages and /en/api/messages-streaming. Fields that are not here are
ignored; fields that are here and cannot be honoured are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from llorch.wire.conversation import MAX_TOOLS, FunctionName, JsonSchema
from llorch.wire.tasks import MAX_CLIENT_STOPS, Stop

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class Source(msgspec.Struct, frozen=True):
    """Where a picture is: only in the request itself, as `base64`."""

    type: str
    media_type: Annotated[str, Meta(max_length=64)] = ""
    data: str = ""


class Block(msgspec.Struct, frozen=True):
    """One part of a message: text, an `image`, a thought, a call of a tool (`tool_use`) or its `tool_result`."""

    type: str
    text: str = ""
    thinking: str = ""
    id: Annotated[str, Meta(max_length=256)] = ""
    name: str = ""
    input: dict[str, Any] | None = None
    tool_use_id: Annotated[str, Meta(max_length=256)] = ""
    content: str | list[dict[str, Any]] | None = None
    source: Source | None = None


class Turn(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class OfferedTool(msgspec.Struct, frozen=True):
    """Something that the model may ask to be called; those that Anthropic itself would run are refused by type."""

    name: FunctionName
    type: str | None = None
    description: str | None = None
    input_schema: JsonSchema | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether tools are to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True):
    """Whether what the model thinks is told; how much it thinks is the model's own affair."""

    type: Literal["enabled", "disabled", "adaptive"]


class OutputFormat(msgspec.Struct, frozen=True):
    """The form of an answer."""

    type: Literal["json_schema"]
    schema: JsonSchema


class OutputConfig(msgspec.Struct, frozen=True):
    """How an answer is to be."""

    format: OutputFormat | None = None


class CountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/messages/count_tokens`, and what a message has in common with it."""

    model: Annotated[str, Meta(min_length=1, max_length=1024)]
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=4096)]
    system: str | list[Block] | None = None
    tools: Annotated[list[OfferedTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[Stop], Meta(max_length=MAX_CLIENT_STOPS)] | None = None
    stream: bool | None = None


class TokensCounted(msgspec.Struct, frozen=True):
    """How many tokens a request would be."""

    input_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """Tokens of the prompt and of the answer.

    The prompt's are `input_tokens` and `cache_read_input_tokens` together; null: not known yet how many of them are the
    latter, which did not need to be computed.
    """

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int = 0


class TextBlock(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """What the model said."""

    text: str


class ThinkingBlock(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """What the model thought; nobody signs that here."""

    thinking: str
    signature: str = ""


class ToolUseBlock(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call that the model asks for."""

    id: str
    name: str
    input: dict[str, Any]


class MessageReply(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, or its beginning in a stream."""

    id: str
    model: str
    content: list[TextBlock | ThinkingBlock | ToolUseBlock]
    usage: Usage
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    role: Literal["assistant"] = "assistant"
    type: Literal["message"] = "message"


class MessageError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, and its kind in Anthropic's words."""

    message: str
    type: str


class MessageErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer from status 400 upwards on `/v1/messages`; `request_id` is the correlation id."""

    error: MessageError
    request_id: str
    type: Literal["error"] = "error"
