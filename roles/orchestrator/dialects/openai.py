"""What a request of OpenAI's API asks for, in terms of jobs. Pure; answers are in `openai_replies`.

A request is one job an answer (`n`, and for plain completions one a prompt). Where OpenAI's default differs from
llorch's, a client of OpenAI's API gets OpenAI's: temperature 1, and as many tokens as the context has room for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from llorch.wire.codec import FieldProblem, FieldProblems, checked, invalid
from llorch.wire.conversation import (
    Content,
    Function,
    FunctionCall,
    ImagePart,
    ImageUrl,
    Message,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    SchemaFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    whole_text,
)
from llorch.wire.openai import (
    Asked,
    AskedImage,
    ChatMessage,
    ChatRequest,
    ChosenTool,
    CompletionRequest,
    Format,
    OfferedTool,
    Part,
)
from llorch.wire.tasks import MAX_SEED, MAX_TIMEOUT_MS, ClientTask, SubmitTask

T = TypeVar("T")
U = TypeVar("U")
TEXTS = frozenset({"text", "input_text", "output_text"})
OF_A_CLIENT: dict[str, Any] = {"on_disconnect": "cancel", "timeout_ms": MAX_TIMEOUT_MS}
IMAGES = frozenset({"image_url", "input_image"})


def chat_tasks(asked: ChatRequest, *, room: int | None) -> list[SubmitTask]:
    """Return the jobs that a chat asks for, one an answer.

    Args:
        asked: The request.
        room: The model's context in tokens, if it is known: as many are asked for where the request does not say, or
            asks for more, as clients that were made for larger models do.

    Raises:
        InvalidRequest: It asks for what llorch cannot do; every such field is named.
    """
    unable = {"audio": asked.audio is not None, "modalities": asked.modalities not in (None, ["text"])}
    problems = [FieldProblem(name, "not supported") for name, is_asked in unable.items() if is_asked]
    messages = [found(problems, f"messages[{n}]", message, each) for n, each in enumerate(asked.messages)]
    tools = [found(problems, f"tools[{n}]", _tool, each) for n, each in enumerate(asked.tools or ())]
    choice = found(problems, "tool_choice", _choice, asked.tool_choice)
    formed = found(problems, "response_format", _format, asked.response_format)
    if problems:
        raise invalid(problems)
    fields: dict[str, object] = {
        "messages": messages,
        "max_tokens": limited(asked.max_completion_tokens or asked.max_tokens, room=room),
        "tools": tools or UNSET,
        "tool_choice": choice if tools or choice not in ("none", "auto") else UNSET,
        "parallel_tool_calls": given(asked.parallel_tool_calls),
        "response_format": formed,
        "reasoning_format": "auto" if asked.reasoning_effort not in (None, "none") else UNSET,
        "logprobs": True if asked.logprobs else UNSET,
        "top_logprobs": given(asked.top_logprobs),
    }
    return _numbered(submission(_sampled(asked) | fields), asked.n or 1)


def completion_tasks(asked: CompletionRequest, *, room: int | None) -> list[SubmitTask]:
    """Return the jobs that a plain completion asks for, one an answer; see `chat_tasks`.

    Where it does not say, that is 16 tokens at most.
    """
    unable = {"echo": asked.echo, "suffix": asked.suffix, "best_of": (asked.best_of or 1) > 1}
    problems = [FieldProblem(name, "not supported") for name, is_asked in unable.items() if is_asked]
    prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    if not all(isinstance(prompt, str) and prompt for prompt in prompts):
        problems.append(FieldProblem("prompt", "expected a text, or a list of texts; token ids are not supported"))
    if problems:
        raise invalid(problems)
    fields: dict[str, object] = {"max_tokens": limited(asked.max_tokens or 16, room=room)}
    if asked.logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": asked.logprobs}
    fields |= _sampled(asked)
    found: list[SubmitTask] = []
    for prompt in prompts:
        found += _numbered(submission(fields | {"prompt": prompt}), asked.n or 1, behind=len(found))
    return found


def limited(wanted: int | None, *, room: int | None) -> int | UnsetType:
    """Return how many tokens a job asks for, if anything is known; see `chat_tasks`."""
    known = [count for count in (wanted, room) if count is not None]
    return min(known, default=UNSET)


def submission(fields: dict[str, object]) -> SubmitTask:
    """Return a job that ends when its client leaves, or after the longest time that a job may have.

    These APIs have no field for a time: their clients wait as long as they like, and leave.

    Raises:
        InvalidRequest: A field is not what a job may have, or they do not fit together.
    """
    try:
        return checked(ClientTask(**fields, **OF_A_CLIENT))  # type: ignore[arg-type]  # that is checked
    except FieldProblems as error:
        raise invalid(error.problems) from None


def found(problems: list[FieldProblem], field: str, make: Callable[[T], U], value: T) -> U:
    """Return what *make* makes of a field's value; what is wrong with it is added to *problems*, by its place."""
    try:
        return make(value)
    except FieldProblems as error:
        for problem in error.problems:
            dot = "." if problem.field and not problem.field.startswith("[") else ""
            problems.append(FieldProblem(f"{field}{dot}{problem.field}", problem.problem))
        return value  # type: ignore[return-value]  # nobody uses it: there are problems


def given(value: T | None) -> T | UnsetType:
    """Return a field as a job has it: not set where OpenAI's is null."""
    return UNSET if value is None else value


def message(said: ChatMessage) -> Message:
    """Return a turn of a conversation.

    Raises:
        FieldProblems: It holds something else than text and pictures that can be read, or is of a function.
    """
    if said.role == "function":
        raise FieldProblems(FieldProblem("role", "functions are told as tools by now"))
    calls = [
        ToolCall(call.id, FunctionCall(call.function.name, call.function.arguments)) for call in said.tool_calls or ()
    ]
    assistant, tool = said.role == "assistant", said.role == "tool"
    return Message(
        "system" if said.role == "developer" else said.role,
        content=UNSET if said.content is None else content_of(said.content),
        tool_calls=calls if calls and assistant else UNSET,
        tool_call_id=given(said.tool_call_id) if tool else UNSET,
        reasoning_content=given(said.reasoning_content) if assistant else UNSET,
    )


def content_of(content: str | Sequence[Part]) -> Content:
    """Return what a message holds; what is wrong with it is named by its place."""
    problems: list[FieldProblem] = []
    made = found(problems, "content", joined, content)
    if problems:
        raise FieldProblems(*problems)
    return made


def joined(content: str | Sequence[Part], *, between: str = "\n") -> Content:
    """Return what a message's parts say and show: a text, where they show nothing; raises as `message` does.

    Args:
        content: A text, or its parts.
        between: What comes between texts; nothing where they are one text of an answer.
    """
    if isinstance(content, str):
        return content
    problems: list[FieldProblem] = []
    parts = [found(problems, f"[{number}]", _part, part) for number, part in enumerate(content)]
    if problems:
        raise FieldProblems(*problems)
    if any(isinstance(part, ImagePart) for part in parts):
        return parts
    return whole_text((part.text for part in content), between)


def _part(part: Part) -> TextPart | ImagePart:
    if part.type in TEXTS:
        return TextPart(part.text)
    if part.type not in IMAGES:
        raise FieldProblems(FieldProblem("", f"a part of type {part.type[:40]!r} is not supported"))
    url = part.image_url.url if isinstance(part.image_url, AskedImage) else part.image_url
    if url is None:
        raise FieldProblems(FieldProblem("image_url", "required"))
    return picture(url, "image_url")


def picture(url: str, field: str) -> ImagePart:
    """Return a picture as a job has it.

    Raises:
        FieldProblems: It cannot be read; *field* is named.
    """
    try:
        return ImagePart(ImageUrl(url))
    except FieldProblems as error:
        raise FieldProblems(*(FieldProblem(field, problem.problem) for problem in error.problems)) from None


def offered(name: str, description: str | None, parameters: dict[str, object] | None, *, strict: bool | None) -> Tool:
    """Return a function as a job has it."""
    return Tool(Function(name, given(description), given(parameters), given(strict)))


def _tool(tool: OfferedTool) -> Tool:
    if tool.type != "function" or tool.function is None:
        raise FieldProblems(FieldProblem("type", "only functions are supported"))
    told = tool.function
    return offered(told.name, told.description, told.parameters, strict=told.strict)


def _choice(choice: Literal["none", "auto", "required"] | ChosenTool | None) -> ToolChoice | UnsetType:
    if isinstance(choice, ChosenTool):
        if choice.type != "function" or choice.function is None:
            raise FieldProblems(FieldProblem("", "only functions are supported"))
        return NamedTool(NamedFunction(choice.function.name))
    return UNSET if choice is None else choice


def _format(asked: Format | None) -> ResponseFormat | UnsetType:
    if asked is None or asked.type == "text":
        return UNSET
    described = asked.json_schema
    return ResponseFormat(asked.type, UNSET if described is None else SchemaFormat(described.schema))


def _numbered(task: SubmitTask, count: int, *, behind: int = 0) -> list[SubmitTask]:
    """Return a checked job so many times, each with a seed of its own."""
    if task.seed is UNSET:
        return [task] * count
    return [replace(task, seed=(task.seed + behind + number) & MAX_SEED) for number in range(count)]


def _sampled(asked: Asked) -> dict[str, object]:
    """Return the fields that chats and plain completions have in common."""
    return {
        "model": asked.model,
        "seed": UNSET if asked.seed is None else asked.seed & MAX_SEED,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "top_k": asked.top_k or 0,
        "min_p": asked.min_p or 0.0,
        "repetition_penalty": 1.0 if asked.repetition_penalty is None else asked.repetition_penalty,
        "frequency_penalty": asked.frequency_penalty or 0.0,
        "presence_penalty": asked.presence_penalty or 0.0,
        "logit_bias": asked.logit_bias or UNSET,
        "stop": [asked.stop] if isinstance(asked.stop, str) else asked.stop or [],
        "priority": asked.priority,
        "session_id": asked.session_id,
    }
