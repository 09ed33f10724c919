"""OpenAI's API in terms of jobs: what a request asks for, and what a job's events are in its words. Pure.

A request is one job an answer (`n`, and for plain completions one a prompt). Where OpenAI's default differs from
llorch's, a client of OpenAI's API gets OpenAI's: temperature 1, and as many tokens as the context has room for.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, structs

from llorch.errors import LlorchError
from llorch.wire.codec import FieldProblem, encode, invalid
from llorch.wire.conversation import Message
from llorch.wire.errors import to_reply
from llorch.wire.events import End
from llorch.wire.openai import (
    AnswerMessage,
    ApiError,
    ApiErrorReply,
    Asked,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    ChunkChoice,
    Completion,
    CompletionRequest,
    Delta,
    FinishReason,
    TextChoice,
    Usage,
)
from llorch.wire.tasks import MAX_SEED, SubmitTask
from roles.orchestrator.dialects.answer import Answer

DONE = b"data: [DONE]\n\n"
_REASONS: dict[str, FinishReason] = {"eos": "stop", "stop_sequence": "stop", "max_tokens": "length"}
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_TYPES |= {413: "invalid_request_error", 429: "rate_limit_error"}


def chat_tasks(asked: ChatRequest, *, room: int | None) -> list[SubmitTask]:
    """Return the jobs that a chat asks for, one an answer.

    Args:
        asked: The request.
        room: Tokens to ask for where the request does not say: the model's context, if it is known.

    Raises:
        InvalidRequest: It asks for what llorch cannot do; every such field is named.
    """
    problems = _unsupported(asked)
    unable = {"logprobs": bool(asked.logprobs), "tools": bool(asked.tools), "audio": asked.audio is not None}
    unable["tool_choice"] = asked.tool_choice not in {None, "none", "auto"} if _plain(asked.tool_choice) else True
    unable["response_format"] = (asked.response_format or {"type": "text"}).get("type") != "text"
    unable["modalities"] = asked.modalities not in (None, ["text"])
    problems += [FieldProblem(name, "not supported") for name, is_asked in unable.items() if is_asked]
    messages = []
    for number, message in enumerate(asked.messages):
        text, problem = _text(message)
        if problem:
            problems.append(FieldProblem(f"messages[{number}]", problem))
        else:
            messages.append(Message("system" if message.role == "developer" else message.role, text))  # type: ignore[arg-type]  # others are problems
    if problems:
        raise invalid(problems)
    wanted = asked.max_completion_tokens or asked.max_tokens or room
    return [_task(asked, wanted, number, messages=messages) for number in range(asked.n or 1)]


def completion_tasks(asked: CompletionRequest) -> list[SubmitTask]:
    """Return the jobs that a plain completion asks for, one an answer; see `chat_tasks`."""
    problems = _unsupported(asked)
    unable = {
        "logprobs": asked.logprobs,
        "echo": asked.echo,
        "suffix": asked.suffix,
        "best_of": (asked.best_of or 1) > 1,
    }
    problems += [FieldProblem(name, "not supported") for name, is_asked in unable.items() if is_asked]
    prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    if not all(isinstance(prompt, str) and prompt for prompt in prompts):
        problems.append(FieldProblem("prompt", "expected a text, or a list of texts; token ids are not supported"))
    if problems:
        raise invalid(problems)
    count = asked.n or 1
    return [
        _task(asked, asked.max_tokens or 16, number, prompt=str(prompt))
        for number, prompt in enumerate(prompt for prompt in prompts for _ in range(count))
    ]


def chat_reply(answers: list[Answer], *, name: str, created_s: int) -> ChatCompletion:
    """Return the whole answer of a chat."""
    choices = [
        ChatChoice(index, AnswerMessage(answer.text), _REASONS[answer.end.stop_reason])
        for index, answer in enumerate(answers)
    ]
    return ChatCompletion(
        id=f"chatcmpl-{answers[0].job_id}",
        created=created_s,
        model=name,
        choices=choices,
        usage=usage([answer.end for answer in answers]),
        system_fingerprint=answers[0].engine,
    )


def completion_reply(answers: list[Answer], *, name: str, created_s: int) -> Completion:
    """Return the whole answer of a plain completion."""
    choices = [TextChoice(index, answer.text, _REASONS[answer.end.stop_reason]) for index, answer in enumerate(answers)]
    return Completion(
        id=f"cmpl-{answers[0].job_id}",
        created=created_s,
        model=name,
        choices=choices,
        usage=usage([answer.end for answer in answers]),
        system_fingerprint=answers[0].engine,
    )


class Chunks:
    """Writes one streamed answer.

    Args:
        job_id: The first job.
        name: The model, as it was asked for.
        created_s: When it was asked for, in Unix seconds.
        chat: Whether it is a chat.
        with_usage: Whether the client asked for the token counts.
    """

    def __init__(self, job_id: str, *, name: str, created_s: int, chat: bool, with_usage: bool) -> None:
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{job_id}"
        self._name = name
        self._created_s = created_s
        self._chat = chat
        self._usage = None if with_usage else UNSET
        self.engine = ""

    def first(self, index: int) -> bytes:
        """Begin an answer."""
        return self._chunk(ChunkChoice(index, Delta("", "assistant"))) if self._chat else b""

    def text(self, index: int, text: str) -> bytes:
        """Add to an answer."""
        return self._chunk(ChunkChoice(index, Delta(text)) if self._chat else TextChoice(index, text))

    def end(self, index: int, end: End) -> bytes:
        """End an answer."""
        reason = _REASONS[end.stop_reason]
        return self._chunk(ChunkChoice(index, Delta(), reason) if self._chat else TextChoice(index, "", reason))

    def last(self, ends: list[End]) -> bytes:
        """End the stream."""
        if self._usage is UNSET:
            return DONE
        return self._event([], usage(ends)) + DONE

    def _chunk(self, choice: ChunkChoice | TextChoice) -> bytes:
        return self._event([choice], self._usage)

    def _event(self, choices: list[Any], used: Usage | Any | None) -> bytes:  # noqa: ANN401 - msgspec's UNSET
        kind = ChatChunk if self._chat else Completion
        body = kind(
            id=self._id,
            created=self._created_s,
            model=self._name,
            choices=choices,
            system_fingerprint=self.engine,
            usage=used,
        )
        return b"data: " + encode(body) + b"\n\n"


def error_reply(error: LlorchError, correlation_id: str) -> ApiErrorReply:
    """Return an error in OpenAI's words; `code` is llorch's own."""
    body = to_reply(error, correlation_id).error
    fields = (error.details or {}).get("fields")
    param = fields[0]["field"] or None if isinstance(fields, list) and fields else None
    return ApiErrorReply(ApiError(**structs.asdict(body), type=_TYPES.get(error.status, "server_error"), param=param))


def error_event(error: LlorchError, correlation_id: str) -> bytes:
    """Return an error that comes behind the first byte, as clients of streams expect it."""
    return b"data: " + encode(error_reply(error, correlation_id)) + b"\n\n"


def usage(ends: list[End]) -> Usage:
    """Add up the tokens of all answers; the prompt counts once, as OpenAI counts it."""
    prompt, completion = ends[0].tokens_in, sum(end.tokens_out for end in ends)
    return Usage(prompt, completion, prompt + completion)


def _task(
    asked: Asked,
    max_tokens: int | None,
    number: int,
    *,
    prompt: str | None = None,
    messages: list[Message] | None = None,
) -> SubmitTask:
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    return SubmitTask(
        model=asked.model,
        prompt=UNSET if prompt is None else prompt,
        messages=UNSET if messages is None else messages,
        max_tokens=UNSET if max_tokens is None else max_tokens,
        seed=UNSET if asked.seed is None else (asked.seed + number) & MAX_SEED,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=asked.top_k or 0,
        min_p=asked.min_p or 0.0,
        repetition_penalty=1.0 if asked.repetition_penalty is None else asked.repetition_penalty,
        stop=stops,
        priority=asked.priority,
        session_id=asked.session_id,
        on_disconnect="cancel",
    )


def _unsupported(asked: Asked) -> list[FieldProblem]:
    names = [name for name in ("presence_penalty", "frequency_penalty", "logit_bias") if getattr(asked, name)]
    return [FieldProblem(name, "not supported; leave it out or give its neutral value") for name in names]


def _text(message: ChatMessage) -> tuple[str, str]:
    """Return a message's text, and what is wrong with it if something is."""
    if message.role in {"tool", "function"} or message.tool_calls:
        return "", "calls of tools are not supported"
    if isinstance(message.content, str):
        return message.content, ""
    if message.content is None:
        return "", "its content is missing"
    foreign = next((part.type for part in message.content if part.type != "text"), None)
    if foreign is not None:
        return "", f"a part of type {foreign[:40]!r} is not supported: this model reads text alone"
    return "".join(part.text for part in message.content), ""


def _plain(choice: object) -> bool:
    return choice is None or isinstance(choice, str)
