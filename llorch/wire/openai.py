"""Bodies of OpenAI's API, as far as llorch speaks it. No I/O.

Source: https://platform.openai.com/docs/api-reference (chat, completions, models). Fields that are not here are
ignored, as OpenAI's own clients expect of servers; fields that are here and cannot be honoured are refused by name, so
that nobody gets an answer to another question.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.conversation import MAX_TOOLS, FunctionName, JsonSchema
from llorch.wire.tasks import MAX_CLIENT_STOPS, MAX_SEED, MAX_TOP_LOGPROBS, LogitBias, Priority, Stop

Stops = Annotated[list[Stop], Meta(max_length=MAX_CLIENT_STOPS)] | Stop | None


class AskedImage(msgspec.Struct, frozen=True):
    """Where a picture is: only in the request itself."""

    url: str


class Part(msgspec.Struct, frozen=True):
    """One part of a message: text, or a picture."""

    type: str
    text: str = ""
    image_url: AskedImage | str | None = None


class CalledFunction(msgspec.Struct, frozen=True):
    """A function that a model asked for, and its arguments as JSON."""

    name: FunctionName
    arguments: str = "{}"


class Call(msgspec.Struct, frozen=True):
    """A call in the answer of a model."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    function: CalledFunction
    type: str = "function"


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn of a conversation; `developer` is another name for `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: Annotated[list[Call], Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    reasoning_content: str | None = None


class OfferedFunction(msgspec.Struct, frozen=True):
    """What a tool does, and the schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


class OfferedTool(msgspec.Struct, frozen=True):
    """Something that the model may ask to be called: only functions can be."""

    type: str
    function: OfferedFunction | None = None


class ChosenFunction(msgspec.Struct, frozen=True):
    """The name of a function that must be called."""

    name: FunctionName


class ChosenTool(msgspec.Struct, frozen=True):
    """The tool that must be called."""

    type: str
    function: ChosenFunction | None = None


class FormatSchema(msgspec.Struct, frozen=True):
    """A JSON schema, with a name for people."""

    schema: JsonSchema
    name: str | None = None
    strict: bool | None = None


class Format(msgspec.Struct, frozen=True):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: FormatSchema | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream holds beside the text."""

    include_usage: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and plain completions have in common. `priority` and `session_id` are llorch's own."""

    model: Annotated[str, Meta(min_length=1, max_length=1024)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0, le=2)] | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    stop: Stops = None
    seed: Annotated[int, Meta(ge=-(2**63), extra_json_schema={"maximum": MAX_SEED})] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: LogitBias | None = None
    priority: Priority = "interactive"
    session_id: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$(?!\n)")] | UnsetType = UNSET


class ChatRequest(Asked, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[OfferedTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    reasoning_effort: str | None = None
    audio: dict[str, Any] | None = None
    modalities: list[str] | None = None


class CompletionRequest(Asked, frozen=True, kw_only=True):
    """`POST /v1/completions`."""

    prompt: Annotated[str, Meta(min_length=1)] | Annotated[list[Any], Meta(min_length=1, max_length=64)]
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be asked for: an alias, or the reference of a file on some host.

    `capabilities` are llorch's own: they are told of a model that does something else than write text.
    """

    id: str
    created: int = 0
    owned_by: str = "llorch"
    shutdown_date: None = None
    object: Literal["model"] = "model"
    capabilities: list[str] | UnsetType = UNSET


class ModelCards(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong: `code` is llorch's own, `param` the first field that is wrong."""

    code: str
    message: str
    type: str
    param: str | None = None


class ApiErrorReply(msgspec.Struct, frozen=True):
    """The body of every answer from status 400 upwards on `/v1`."""

    error: ApiError
