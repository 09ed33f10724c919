"""A job's events in the words of Anthropic's Messages API: whole answers, events, errors. Pure."""

from __future__ import annotations

import json
from typing import Any

from msgspec import UNSET

from llorch.errors import LlorchError
from llorch.wire.anthropic import (
    MessageError,
    MessageErrorReply,
    MessageReply,
    MessagesRequest,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    Usage,
)
from llorch.wire.codec import encode
from llorch.wire.conversation import ToolCall, ToolCallDelta
from llorch.wire.events import End, Token
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.anthropic import stop_sequence
from roles.orchestrator.dialects.too_long import anthropic_words

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_REASONS: dict[str, StopReason] = {"eos": "end_turn", "stop_sequence": "stop_sequence", "max_tokens": "max_tokens"}
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_TYPES |= {413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error"}
Content = TextBlock | ThinkingBlock | ToolUseBlock


def whole_reply(answer: Answer, asked: MessagesRequest) -> MessageReply:
    """Return the whole answer."""
    content: list[Content] = [ThinkingBlock(answer.reasoning)] if answer.reasoning else []
    if answer.text or not answer.tool_calls:
        content.append(TextBlock(answer.text))
    content += [ToolUseBlock(call.id, call.function.name, _input(call)) for call in answer.tool_calls]
    return MessageReply(
        id=f"msg_{answer.job_id}",
        model=asked.model,
        content=content,
        usage=_usage(answer.end),
        stop_reason=_reason(answer.end, called=bool(answer.tool_calls)),
        stop_sequence=stop_sequence(asked.stop_sequences, answer.end.stop_reason),
    )


class Events:
    """Writes one streamed answer: a block at a time, each begun, filled and ended.

    Args:
        job_id: The job.
        asked: The request.
    """

    def __init__(self, job_id: str, asked: MessagesRequest) -> None:
        self._id = f"msg_{job_id}"
        self._asked = asked
        self._begun = False
        self._index = -1
        self._open = ""
        self._called = False

    def first(self, *, tokens_in: int) -> bytes:
        """Begin the answer, once: another attempt at it goes on with the same one."""
        if self._begun:
            return b""
        self._begun = True
        begun = MessageReply(id=self._id, model=self._asked.model, content=[], usage=Usage(tokens_in, 0))
        return _event("message_start", {"message": begun})

    def piece(self, token: Token) -> bytes:
        """Add to the answer."""
        parts: list[bytes] = []
        if token.reasoning_content is not UNSET:
            parts += self._begin("thinking", ThinkingBlock(""))
            parts.append(self._delta({"type": "thinking_delta", "thinking": token.reasoning_content}))
        if token.t:
            parts += self._begin("text", TextBlock(""))
            parts.append(self._delta({"type": "text_delta", "text": token.t}))
        for call in () if token.tool_calls is UNSET else token.tool_calls:
            parts += self._call(call)
        return b"".join(parts)

    def last(self, end: End) -> bytes:
        """End the block and the answer; an answer without a word has one empty block of text."""
        begun = [] if self._index >= 0 else self._begin("text", TextBlock(""))
        stopped = stop_sequence(self._asked.stop_sequences, end.stop_reason)
        delta = {"stop_reason": _reason(end, called=self._called), "stop_sequence": stopped}
        return b"".join(
            [
                *begun,
                *self._end(),
                _event("message_delta", {"delta": delta, "usage": _usage(end)}),
                _event("message_stop", {}),
            ]
        )

    def _call(self, call: ToolCallDelta) -> list[bytes]:
        parts: list[bytes] = []
        if call.id:
            self._called = True
            parts += self._begin(f"call {call.index}", ToolUseBlock(call.id, call.function.name, {}))
        if call.function.arguments:
            parts.append(self._delta({"type": "input_json_delta", "partial_json": call.function.arguments}))
        return parts

    def _begin(self, kind: str, block: Content) -> list[bytes]:
        """End the block that is open and begin another, unless it is the one that is open."""
        if self._open == kind:
            return []
        ended = self._end()
        self._open, self._index = kind, self._index + 1
        return [*ended, _event("content_block_start", {"index": self._index, "content_block": block})]

    def _end(self) -> list[bytes]:
        if not self._open:
            return []
        signed = [self._delta({"type": "signature_delta", "signature": ""})] if self._open == "thinking" else []
        self._open = ""
        return [*signed, _event("content_block_stop", {"index": self._index})]

    def _delta(self, delta: dict[str, str]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})


def error_reply(error: LlorchError, correlation_id: str) -> MessageErrorReply:
    """Return an error in Anthropic's words."""
    told = MessageError(message=anthropic_words(error), type=_TYPES.get(error.status, "api_error"))
    return MessageErrorReply(error=told, request_id=correlation_id)


def error_event(error: LlorchError, correlation_id: str) -> bytes:
    """Return an error that comes behind the first byte."""
    return b"event: error\ndata: " + encode(error_reply(error, correlation_id)) + b"\n\n"


def _event(kind: str, fields: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))


def _usage(end: End) -> Usage:
    cached = min(end.tokens_cached, end.tokens_in)  # an attempt that took over has read the answer so far, too
    return Usage(end.tokens_in - cached, end.tokens_out, cached)


def _reason(end: End, *, called: bool) -> StopReason:
    return "tool_use" if called and end.stop_reason == "eos" else _REASONS[end.stop_reason]


def _input(call: ToolCall) -> dict[str, Any]:
    """Return a call's arguments; those of an answer that was cut off can be half of their JSON."""
    try:
        given = json.loads(call.function.arguments)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}
