"""Bodies of OpenAI's Responses API, as far as llorch speaks it: without a state between requests. No I/O.

Source: https://platform.openai.com/docs/api-reference/responses. Fields that are not here are ignored; fields that are
here and cannot be honoured are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.conversation import MAX_TOOLS, FunctionName, JsonSchema, TokenLogprob
from llorch.wire.openai import Part
from llorch.wire.tasks import MAX_TOP_LOGPROBS, Priority

Status = Literal["in_progress", "completed", "incomplete"]


class Item(msgspec.Struct, frozen=True):
    """One item of a conversation: a message, a thought, a call of a function, or what it gave."""

    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Part] | None = None
    call_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    name: FunctionName | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


class OfferedFunction(msgspec.Struct, frozen=True):
    """Something that the model may ask to be called: only functions can be."""

    type: str
    name: FunctionName | None = None
    description: str | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


class NamedChoice(msgspec.Struct, frozen=True):
    """The function that must be called."""

    type: str
    name: FunctionName | None = None


class TextFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: JsonSchema | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, frozen=True):
    """How an answer's text is to be."""

    format: TextFormat | None = None


class Reasoning(msgspec.Struct, frozen=True):
    """Whether what the model thinks is told; how much it thinks is the model's own affair."""

    effort: str | None = None
    summary: str | None = None


class ResponsesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/responses`. `priority` and `session_id` are llorch's own."""

    model: Annotated[str, Meta(min_length=1, max_length=1024)]
    input: Annotated[str, Meta(min_length=1)] | Annotated[list[Item], Meta(min_length=1, max_length=4096)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[OfferedFunction], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    priority: Priority = "interactive"
    session_id: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$(?!\n)")] | UnsetType = UNSET


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of an answer."""

    text: str
    annotations: list[str] = []
    logprobs: list[TokenLogprob] = []


class ReasoningText(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """Text of a thought."""

    text: str


class MessageItem(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """What the model said."""

    id: str
    content: list[OutputText]
    status: Status = "completed"
    role: Literal["assistant"] = "assistant"


class ReasoningItem(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """What the model thought."""

    id: str
    content: list[ReasoningText]
    status: Status = "completed"
    summary: list[str] = []


class CallItem(msgspec.Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call that the model asks for."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status = "completed"


OutputItem = MessageItem | ReasoningItem | CallItem


class InputDetails(msgspec.Struct, frozen=True):
    """How much of a prompt was not computed anew, because an earlier one began alike."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    """How much of an answer was thoughts; nobody counts that here."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True):
    """Tokens of the prompt and of the answer."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens_details: OutputDetails = OutputDetails()


class Incomplete(msgspec.Struct, frozen=True):
    """Why an answer was cut off."""

    reason: Literal["max_output_tokens"]


class ResponseError(msgspec.Struct, frozen=True):
    """Why there is no (whole) answer; `code` is llorch's own, but for a prompt that is too long."""

    code: str
    message: str


class ResponseReply(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, or what is known of it at its beginning."""

    id: str
    created_at: int
    model: str
    status: Status | Literal["failed"]
    output: list[OutputItem]
    parallel_tool_calls: bool
    tool_choice: Literal["none", "auto", "required"] | NamedChoice
    tools: list[OfferedFunction]
    temperature: float
    top_p: float
    text: TextConfig
    metadata: dict[str, str]
    instructions: str | None = None
    max_output_tokens: int | None = None
    usage: ResponseUsage | None = None
    incomplete_details: Incomplete | None = None
    completed_at: int | None = None
    reasoning: Reasoning = Reasoning()
    top_logprobs: int = 0
    truncation: Literal["disabled"] = "disabled"
    error: ResponseError | None = None
    previous_response_id: None = None
    max_tool_calls: None = None
    prompt_cache_key: None = None
    safety_identifier: None = None
    user: None = None
    background: bool = False
    object: Literal["response"] = "response"
