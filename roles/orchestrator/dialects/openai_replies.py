"""A job's events in the words of OpenAI's API: whole answers, chunks, errors. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from llorch.errors import LlorchError
from llorch.wire.codec import encode
from llorch.wire.conversation import TokenLogprob, ToolCallDelta
from llorch.wire.events import End, Token
from llorch.wire.openai import ApiError, ApiErrorReply
from llorch.wire.openai_replies import (
    AnswerMessage,
    CallPart,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChunkChoice,
    Completion,
    Delta,
    FinishReason,
    FunctionPart,
    PromptDetails,
    TextChoice,
    TextLogprobs,
    Usage,
)
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.too_long import OPENAI_CODE, PromptField, excess, openai_words

DONE = b"data: [DONE]\n\n"
_REASONS: dict[str, FinishReason] = {"eos": "stop", "stop_sequence": "stop", "max_tokens": "length"}
_TYPES = dict.fromkeys((400, 404, 413), "invalid_request_error")
_TYPES |= {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def chat_reply(answers: list[Answer], *, name: str, created_s: int) -> ChatCompletion:
    """Return the whole answer of a chat."""
    return ChatCompletion(
        id=f"chatcmpl-{answers[0].job_id}",
        created=created_s,
        model=name,
        choices=[_chat_choice(index, answer) for index, answer in enumerate(answers)],
        usage=usage([answer.end for answer in answers]),
        system_fingerprint=answers[0].engine,
    )


def completion_reply(answers: list[Answer], *, name: str, created_s: int) -> Completion:
    """Return the whole answer of a plain completion."""
    choices = [
        TextChoice(index, answer.text, _REASONS[answer.end.stop_reason], _text_logprobs(answer.logprobs, 0))
        for index, answer in enumerate(answers)
    ]
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
        self._begun: set[int] = set()
        self._called: set[int] = set()
        self._lengths: dict[int, int] = {}
        self.engine = ""

    def first(self, index: int) -> bytes:
        """Begin an answer, once: another attempt at it goes on with the same one."""
        if index in self._begun:
            return b""
        self._begun.add(index)
        return self._chunk(ChunkChoice(index, Delta("", "assistant", None))) if self._chat else b""

    def piece(self, index: int, token: Token) -> bytes:
        """Add to an answer."""
        logprobs = [] if token.logprobs is UNSET else token.logprobs
        if not self._chat:
            start = self._lengths.get(index, 0)
            self._lengths[index] = start + len(token.t)
            return self._chunk(TextChoice(index, token.t, None, _text_logprobs(logprobs, start)))
        calls = [] if token.tool_calls is UNSET else token.tool_calls
        self._called |= {index} if calls else set()
        delta = Delta(
            token.t or UNSET,
            reasoning_content=token.reasoning_content,
            tool_calls=[_call_part(call) for call in calls] or UNSET,
        )
        return self._chunk(ChunkChoice(index, delta, None, ChatLogprobs(logprobs) if logprobs else None))

    def end(self, index: int, end: End) -> bytes:
        """End an answer."""
        if not self._chat:
            return self._chunk(TextChoice(index, "", _REASONS[end.stop_reason]))
        return self._chunk(ChunkChoice(index, Delta(), _reason(end, called=index in self._called)))

    def last(self, ends: list[End]) -> bytes:
        """End the stream."""
        if self._usage is UNSET:
            return DONE
        return self._event([], usage(ends)) + DONE

    def failed(self, error: LlorchError, correlation_id: str) -> bytes:
        """Return an error that comes behind the first byte, as clients of streams expect it."""
        told = error_reply(error, correlation_id, asked="messages" if self._chat else "prompt")
        return b"data: " + encode(told) + b"\n\n"

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


def error_reply(error: LlorchError, _correlation_id: str, *, asked: PromptField = "messages") -> ApiErrorReply:
    """Return an error in OpenAI's words; `code` is llorch's own, but for a prompt that is too long.

    Args:
        error: What went wrong.
        asked: Where the prompt was.
    """
    if found := excess(error):
        message = openai_words(found, asked)
        return ApiErrorReply(ApiError(code=OPENAI_CODE, message=message, type=_TYPES[400], param=asked))
    fields = (error.details or {}).get("fields")
    param = fields[0]["field"] or None if isinstance(fields, list) and fields else None
    return ApiErrorReply(
        ApiError(code=error.code, message=error.message, type=_TYPES.get(error.status, "server_error"), param=param)
    )


def usage(ends: list[End]) -> Usage:
    """Add up the tokens of all answers; the prompt counts once, as OpenAI counts it."""
    prompt, completion = ends[0].tokens_in, sum(end.tokens_out for end in ends)
    return Usage(prompt, completion, prompt + completion, PromptDetails(ends[0].tokens_cached))


def _chat_choice(index: int, answer: Answer) -> ChatChoice:
    said = AnswerMessage(
        answer.text if answer.text or not answer.tool_calls else None,
        reasoning_content=answer.reasoning or UNSET,
        tool_calls=list(answer.tool_calls) or UNSET,
    )
    reason = _reason(answer.end, called=bool(answer.tool_calls))
    return ChatChoice(index, said, reason, ChatLogprobs(list(answer.logprobs)) if answer.logprobs else None)


def _reason(end: End, *, called: bool) -> FinishReason:
    return "tool_calls" if called and end.stop_reason == "eos" else _REASONS[end.stop_reason]


def _call_part(call: ToolCallDelta) -> CallPart:
    function = FunctionPart(call.function.arguments, call.function.name or UNSET)
    return CallPart(call.index, function, call.id or UNSET, "function" if call.id else UNSET)


def _text_logprobs(found: Sequence[TokenLogprob], start: int) -> TextLogprobs | None:
    """Return probabilities in the older form; *start* is how much text came before."""
    if not found:
        return None
    offsets = [start]
    for one in found[:-1]:
        offsets.append(offsets[-1] + len(one.token))
    return TextLogprobs(
        [one.token for one in found],
        [one.logprob for one in found],
        [{other.token: other.logprob for other in one.top_logprobs} for one in found],
        offsets,
    )
