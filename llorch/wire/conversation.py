"""What a conversation is made of beside its text: tools, calls of them, and the form an answer must have. No I/O.

The words are OpenAI's, because every client and every chat template speaks them.
Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.codec import UNREADABLE, FieldProblem, FieldProblems, encode
from llorch.wire.images import image_problem
from llorch.wire.json_schema import enforceable, schema_problems

MAX_TOOLS = 512
FunctionName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,128}$(?!\n)", description="up to 128 letters, digits, _, ., : and -")
]
JsonSchema = dict[str, Any]


class FunctionCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model wants called; the arguments are JSON as the model wrote it."""

    name: FunctionName
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call of a tool in an answer of the model."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    function: FunctionCall
    type: Literal["function"] = "function"


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """A piece of what is said."""

    text: str


class ImageUrl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A picture itself, as a `data:` URL with PNG, JPEG, GIF or BMP in base64; `detail` is ignored."""

    url: Annotated[str, Meta(min_length=1, description="data:image/png;base64,…")]
    detail: Literal["auto", "low", "high"] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check that it can be read."""
        if problem := image_problem(self.url):
            raise FieldProblems(FieldProblem("url", problem))


class ImagePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="image_url"):
    """A picture in what is said, for models that have a projector."""

    image_url: ImageUrl


Content = str | Annotated[list[TextPart | ImagePart], Meta(min_length=1, max_length=1024)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation; the model's own chat template joins them.

    `content` may be missing beside `tool_calls` only; pictures are a user's. A `tool` message is the result of the call
    `tool_call_id`. Arguments of `tool_calls` that are no JSON object become one, see `arguments_object`.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: Content | UnsetType = UNSET
    tool_calls: Annotated[list[ToolCall], Meta(min_length=1, max_length=MAX_TOOLS)] | UnsetType = UNSET
    tool_call_id: Annotated[str, Meta(min_length=1, max_length=256)] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check what spans fields; parts that are all text become one text."""
        if isinstance(self.content, list) and not self.images:
            msgspec.structs.force_setattr(self, "content", self.text)
        if self.tool_calls is not UNSET:
            msgspec.structs.force_setattr(self, "tool_calls", [_callable(call) for call in self.tool_calls])
        if self.content is UNSET and self.tool_calls is UNSET:
            raise FieldProblems(FieldProblem("content", "required"))
        for name, role in (("tool_calls", "assistant"), ("reasoning_content", "assistant"), ("tool_call_id", "tool")):
            if getattr(self, name) is not UNSET and self.role != role:
                raise FieldProblems(FieldProblem(name, f"only a message of role {role} has it"))
        if self.images and self.role != "user":
            raise FieldProblems(FieldProblem("content", "only a message of role user has pictures"))
        if self.role == "tool" and self.tool_call_id is UNSET:
            raise FieldProblems(FieldProblem("tool_call_id", "required for a message of role tool"))

    @property
    def images(self) -> list[str]:
        """The URLs of its pictures."""
        if isinstance(self.content, str) or self.content is UNSET:
            return []
        return [part.image_url.url for part in self.content if isinstance(part, ImagePart)]

    @property
    def text(self) -> str:
        """What it says, without pictures."""
        if isinstance(self.content, str) or self.content is UNSET:
            return self.content or ""
        return whole_text(part.text for part in self.content if isinstance(part, TextPart))


def whole_text(parts: Iterable[str], between: str = "\n") -> str:
    """Return the parts of what is said as one text, each on a line of its own: so do llama.cpp's server and vLLM."""
    return between.join(part for part in parts if part)


def arguments_object(arguments: str) -> str:
    """Return the arguments of an old call as a JSON object, which is what chat templates and engines read.

    Nothing is an object without members: a client that puts a stream together leaves it for a function without
    parameters. Anything else than an object, such as one that the end of an answer has cut off, becomes its member
    `arguments`.
    """
    if arguments.strip() in {"", "null"}:
        return "{}"
    try:
        sound = isinstance(msgspec.json.decode(arguments), dict)
    except UNREADABLE:
        sound = False
    return arguments if sound else encode({"arguments": arguments}).decode()


def _callable(call: ToolCall) -> ToolCall:
    arguments = arguments_object(call.function.arguments)
    if arguments == call.function.arguments:
        return call
    return ToolCall(call.id, FunctionCall(call.function.name, arguments))


def images_of(messages: Sequence[Message] | UnsetType) -> list[str]:
    """Return the URLs of all pictures in a conversation, in order."""
    return [] if messages is UNSET else [url for message in messages for url in message.images]


def image_problems(messages: Sequence[Message] | UnsetType, problem: str) -> list[FieldProblem]:
    """Return *problem* at the place of each message's first picture."""
    found: list[FieldProblem] = []
    for number, message in enumerate(() if messages is UNSET else messages):
        if message.images and not isinstance(message.content, str | UnsetType):
            first = next(n for n, part in enumerate(message.content) if isinstance(part, ImagePart))
            found.append(FieldProblem(f"messages[{number}].content[{first}]", problem))
    return found


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a tool does, and the JSON schema of its arguments."""

    name: FunctionName
    description: str | UnsetType = UNSET
    parameters: JsonSchema | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that the model may ask to be called."""

    function: Function
    type: Literal["function"] = "function"


def tool_problems(tool: Tool, field: str) -> list[FieldProblem]:
    """Return what is wrong with the schema of a tool's arguments.

    Only where it is `strict` all of it has to be enforceable: clients send whatever their own libraries write.
    """
    schema = tool.function.parameters
    if schema is UNSET:
        return []
    checked = schema if tool.function.strict is True else enforceable(schema)
    return schema_problems(checked, f"{field}.function.parameters")


class NamedFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name of a function that must be called."""

    name: FunctionName


class NamedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The one tool that must be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class SchemaFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON schema of an answer. It is enforced with and without `strict`."""

    schema: JsonSchema
    name: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form that an answer must have; the engine chooses no token that would break it."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check what spans fields."""
        if (self.type == "json_schema") != (self.json_schema is not UNSET):
            raise FieldProblems(FieldProblem("json_schema", "required for type json_schema, and for no other"))
        if self.json_schema is not UNSET and (found := schema_problems(self.json_schema.schema, "json_schema.schema")):
            raise FieldProblems(*found)


class FunctionDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event adds to a call: its name, once, and its arguments piece by piece."""

    name: str = ""
    arguments: str = ""


class ToolCallDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event adds to the call number `index` of an answer; `id` comes with the first."""

    index: int
    function: FunctionDelta
    id: str = ""


class TokenChance(msgspec.Struct, frozen=True):
    """A token's text, its bytes, and the natural logarithm of its probability before any sampling rule."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TokenChance, frozen=True):
    """A token that was chosen, and the likeliest ones in its place."""

    top_logprobs: list[TokenChance] = []
