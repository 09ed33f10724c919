"""Anthropic's Messages API in terms of jobs: what a request asks for, and a job's events in its words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, structs

from llorch.errors import LlorchError
from llorch.wire.anthropic import (
    Block,
    CountRequest,
    MessageError,
    MessageErrorReply,
    MessageReply,
    MessagesRequest,
    StopReason,
    TextBlock,
    Usage,
)
from llorch.wire.codec import FieldProblem, encode, invalid
from llorch.wire.conversation import Message
from llorch.wire.errors import to_reply
from llorch.wire.events import End
from llorch.wire.tasks import SubmitTask
from llorch.wire.workers import CountTokens
from roles.orchestrator.dialects.answer import Answer

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_REASONS: dict[str, StopReason] = {"eos": "end_turn", "stop_sequence": "stop_sequence", "max_tokens": "max_tokens"}
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_TYPES |= {413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error"}


def task(asked: MessagesRequest) -> SubmitTask:
    """Return the job that a request asks for; its default temperature is Anthropic's, 1.

    Raises:
        InvalidRequest: It asks for what llorch cannot do; every such field is named.
    """
    return SubmitTask(
        model=asked.model,
        messages=_messages(asked),
        max_tokens=asked.max_tokens,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=asked.top_k or 0,
        stop=asked.stop_sequences or [],
        on_disconnect="cancel",
    )


def count(asked: CountRequest) -> CountTokens:
    """Return what a worker is asked to count; raises as `task` does."""
    return CountTokens(prompt=UNSET, messages=_messages(asked))


def whole_reply(answer: Answer, asked: MessagesRequest) -> MessageReply:
    """Return the whole answer."""
    return MessageReply(
        id=f"msg_{answer.job_id}",
        model=asked.model,
        content=[TextBlock(answer.text)],
        usage=Usage(answer.end.tokens_in, answer.end.tokens_out),
        stop_reason=_REASONS[answer.end.stop_reason],
        stop_sequence=_sequence(answer.end, asked),
    )


def first(job_id: str, asked: MessagesRequest, *, tokens_in: int) -> bytes:
    """Begin a streamed answer and its one block of text."""
    begun = MessageReply(id=f"msg_{job_id}", model=asked.model, content=[], usage=Usage(tokens_in, 0))
    return _event("message_start", {"message": begun}) + _event(
        "content_block_start", {"index": 0, "content_block": TextBlock("")}
    )


def text(piece: str) -> bytes:
    """Add to the block."""
    return _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})


def last(end: End, asked: MessagesRequest) -> bytes:
    """End the block and the answer."""
    delta = {"stop_reason": _REASONS[end.stop_reason], "stop_sequence": _sequence(end, asked)}
    used = {"input_tokens": end.tokens_in, "output_tokens": end.tokens_out}
    return (
        _event("content_block_stop", {"index": 0})
        + _event("message_delta", {"delta": delta, "usage": used})
        + _event("message_stop", {})
    )


def error_reply(error: LlorchError, correlation_id: str) -> MessageErrorReply:
    """Return an error in Anthropic's words; `code` is llorch's own."""
    body = to_reply(error, correlation_id).error
    return MessageErrorReply(error=MessageError(**structs.asdict(body), type=_TYPES.get(error.status, "api_error")))


def error_event(error: LlorchError, correlation_id: str) -> bytes:
    """Return an error that comes behind the first byte."""
    return b"event: error\ndata: " + encode(error_reply(error, correlation_id)) + b"\n\n"


def _event(kind: str, fields: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))


def _sequence(end: End, asked: MessagesRequest) -> str | None:
    """Return the sequence that ended the text, where there can be no doubt which."""
    stops = asked.stop_sequences or []
    return stops[0] if end.stop_reason == "stop_sequence" and len(stops) == 1 else None


def _messages(asked: CountRequest) -> list[Message]:
    thinking = (asked.thinking or {"type": "disabled"}).get("type") != "disabled"
    unable = {"tools": bool(asked.tools), "tool_choice": bool(asked.tool_choice), "thinking": thinking}
    problems = [FieldProblem(name, "not supported") for name, is_asked in unable.items() if is_asked]
    found: list[Message] = []
    turns = [("system", "system", asked.system)] if asked.system else []
    turns += [(f"messages[{number}]", turn.role, turn.content) for number, turn in enumerate(asked.messages)]
    for field, role, content in turns:
        foreign = _foreign(content)
        if foreign is not None:
            problem = f"a part of type {foreign[:40]!r} is not supported: this model reads text alone"
            problems.append(FieldProblem(field, problem))
        else:
            found.append(Message(role, _joined(content)))  # type: ignore[arg-type]  # one of the three roles
    if problems:
        raise invalid(problems)
    return found


def _foreign(content: str | Sequence[Block] | None) -> str | None:
    if content is None or isinstance(content, str):
        return None
    return next((block.type for block in content if block.type != "text"), None)


def _joined(content: str | Sequence[Block] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(block.text for block in content)
