"""Bodies of Ollama's API, as far as llorch speaks it. No I/O.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md and api/types.go there. Options that are not here are
ignored, as Ollama ignores those it does not know, and so are those that are about how a model is loaded: the pools
decide that. Fields that are here and cannot be honoured are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.codec import FieldProblem, FieldProblems
from llorch.wire.conversation import MAX_TOOLS, FunctionName, JsonSchema
from llorch.wire.embedding import MAX_INPUTS
from llorch.wire.tasks import MAX_CLIENT_STOPS, MAX_SEED, MAX_TOP_LOGPROBS, Stop

DoneReason = Literal["stop", "length", "load", "unload"]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen; `num_predict` below 1 is as many as the context has room for."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), extra_json_schema={"maximum": MAX_SEED})] | None = None
    num_predict: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    stop: Annotated[list[Stop], Meta(max_length=MAX_CLIENT_STOPS)] | Stop | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What chats and completions have in common; `top_logprobs` mean nothing without `logprobs`."""

    model: Name
    stream: bool | None = None
    options: Options | None = None
    keep_alive: float | str | None = None
    format: Literal["", "json"] | JsonSchema | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None


class Called(msgspec.Struct, frozen=True):
    """A function that the model wants called, its arguments as an object."""

    name: FunctionName
    arguments: dict[str, Any]


class Call(msgspec.Struct, frozen=True):
    """One call in an answer; calls have no ids here, their results come in their order."""

    function: Called


class Turn(msgspec.Struct, frozen=True):
    """One turn of a conversation; a `tool` one is the result of the next open call, of `tool_name` if there is one."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = ""
    images: list[str] | None = None
    tool_calls: Annotated[list[Call], Meta(max_length=MAX_TOOLS)] | None = None
    tool_name: str | None = None
    thinking: str | None = None


class Described(msgspec.Struct, frozen=True):
    """What a function does, and the JSON schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: JsonSchema | None = None


class Offered(msgspec.Struct, frozen=True):
    """A tool that the model may ask to be called."""

    function: Described
    type: Literal["function"] | None = None


class OllamaChat(Asked, frozen=True, kw_only=True):
    """`POST /api/chat`; without messages it only loads the model."""

    messages: Annotated[list[Turn], Meta(max_length=4096)] | None = None
    tools: Annotated[list[Offered], Meta(max_length=MAX_TOOLS)] | None = None


class OllamaGenerate(Asked, frozen=True, kw_only=True):
    """`POST /api/generate`; without a prompt it only loads the model."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[str] | None = None


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /api/embed`: what is too long is cut off, unless `truncate` is false."""

    model: Name
    input: str | Annotated[list[str], Meta(max_length=MAX_INPUTS)] = ""
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**16)] | None = None
    keep_alive: float | str | None = None


class Embeds(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors of all inputs. Durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class OldEmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /api/embeddings`: the older way, for one text."""

    model: Name
    prompt: str = ""
    keep_alive: float | str | None = None


class OldEmbeddings(msgspec.Struct, frozen=True):
    """Its vector."""

    embedding: list[float]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What the last line of an answer tells beside the text, if there was any. Durations are in nanoseconds."""

    done_reason: DoneReason
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class Said(msgspec.Struct, frozen=True):
    """What the model said, what it thought before, and what it wants called."""

    content: str
    role: Literal["assistant"] = "assistant"
    thinking: str | UnsetType = UNSET
    tool_calls: list[Call] | UnsetType = UNSET


class Chance(msgspec.Struct, frozen=True):
    """A token's text, the natural logarithm of its probability, and its bytes."""

    token: str
    logprob: float
    bytes: list[int]


class Likely(Chance, frozen=True):
    """A token that was chosen, and the likeliest ones in its place, if those were asked for."""

    top_logprobs: list[Chance] | UnsetType = UNSET


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an answer, or all of it; what is from `done_reason` on comes with the last."""

    model: str
    created_at: str
    done: bool
    logprobs: list[Likely] | UnsetType = UNSET
    done_reason: DoneReason | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class ChatLine(Line, frozen=True, kw_only=True):
    """A line of a chat."""

    message: Said


class GenerateLine(Line, frozen=True, kw_only=True):
    """A line of a completion."""

    response: str
    thinking: str | UnsetType = UNSET


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /api/show` and `DELETE /api/delete`; `name` is an older name of the field."""

    model: Name | UnsetType = UNSET
    name: Name | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check what spans fields."""
        if self.model is UNSET and self.name is UNSET:
            raise FieldProblems(FieldProblem("model", "required", ("name",)))

    @property
    def wanted(self) -> str:
        """The name that was given."""
        return self.model if self.model is not UNSET else str(self.name)


class PullRequest(Named, frozen=True, kw_only=True):
    """`POST /api/pull`."""

    stream: bool | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One line about a download."""

    status: str
    digest: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What a model file is."""

    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str
    parent_model: str = ""
    format: Literal["gguf"] = "gguf"


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A model that some host has. `digest` is that of its reference, which names one file for ever."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(msgspec.Struct, frozen=True):
    """`GET /api/tags`."""

    models: list[Tag]


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A model that some worker has loaded; `size_vram` is what of it is in the memory of a GPU."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


class RunningList(msgspec.Struct, frozen=True):
    """`GET /api/ps`."""

    models: list[Running]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /api/show`. The chat template is in the model file, and stays there."""

    details: Details
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str
    modelfile: str
    parameters: str = ""
    template: str = ""


class OllamaVersion(msgspec.Struct, frozen=True):
    """`GET /api/version`: the version of Ollama whose API this is."""

    version: str


class OllamaError(msgspec.Struct, frozen=True):
    """The body of every answer from status 400 upwards on `/api`, and the last line of a stream that broke."""

    error: str
