"""A job's events in the words of OpenAI's Responses API: whole answers and events. Pure."""

from __future__ import annotations

from msgspec import UNSET, structs

from llorch.errors import LlorchError
from llorch.wire.codec import encode
from llorch.wire.conversation import TokenLogprob, ToolCallDelta
from llorch.wire.events import End, Token
from llorch.wire.responses import (
    CallItem,
    Incomplete,
    InputDetails,
    MessageItem,
    OutputItem,
    OutputText,
    Reasoning,
    ReasoningItem,
    ReasoningText,
    ResponseError,
    ResponseReply,
    ResponsesRequest,
    ResponseUsage,
    TextConfig,
    TextFormat,
)
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.openai_replies import error_reply


def begun(job_id: str, asked: ResponsesRequest, *, created_s: int) -> ResponseReply:
    """Return an answer of which nothing has come yet."""
    text = asked.text if asked.text is not None and asked.text.format is not None else TextConfig(TextFormat("text"))
    return ResponseReply(
        id=f"resp_{job_id}",
        created_at=created_s,
        model=asked.model,
        status="in_progress",
        output=[],
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        tool_choice=asked.tool_choice or "auto",
        tools=asked.tools or [],
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        text=text,
        metadata=asked.metadata or {},
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        reasoning=asked.reasoning or Reasoning(),
        top_logprobs=asked.top_logprobs or 0,
    )


def whole_reply(answer: Answer, asked: ResponsesRequest, *, created_s: int, ended_s: int) -> ResponseReply:
    """Return the whole answer, asked for and given at these Unix seconds."""
    job_id = answer.job_id
    items: list[OutputItem] = []
    if answer.reasoning:
        items.append(ReasoningItem(f"rs_{job_id}", [ReasoningText(answer.reasoning)]))
    if answer.text or not answer.tool_calls:
        items.append(MessageItem(f"msg_{job_id}", [OutputText(answer.text, logprobs=list(answer.logprobs))]))
    for number, call in enumerate(answer.tool_calls):
        items.append(CallItem(f"fc_{job_id}_{number}", call.id, call.function.name, call.function.arguments))
    return _ended(begun(job_id, asked, created_s=created_s), answer.end, items, ended_s=ended_s)


class Events:
    """Writes one streamed answer: an item at a time, each begun, filled and ended.

    Args:
        job_id: The job.
        asked: The request.
        created_s: When it was asked for, in Unix seconds.
    """

    def __init__(self, job_id: str, asked: ResponsesRequest, *, created_s: int) -> None:
        self._job_id = job_id
        self._reply = begun(job_id, asked, created_s=created_s)
        self._begun = False
        self._items: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._parts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls = 0
        self._serial = -1

    def first(self) -> bytes:
        """Begin the answer, once: another attempt at it goes on with the same one."""
        if self._begun:
            return b""
        self._begun = True
        about: dict[str, object] = {"response": self._reply}
        return self._event("response.created", about) + self._event("response.in_progress", about)

    def piece(self, token: Token) -> bytes:
        """Add to the answer."""
        written: list[bytes] = []
        if token.reasoning_content is not UNSET:
            if not isinstance(self._open, ReasoningItem):
                written.append(self._begin(ReasoningItem(f"rs_{self._job_id}_{len(self._items)}", [], "in_progress")))
            written.append(self._add("response.reasoning_text.delta", token.reasoning_content, content_index=0))
        if token.t:
            if not isinstance(self._open, MessageItem):
                written.append(self._begin(MessageItem(f"msg_{self._job_id}_{len(self._items)}", [], "in_progress")))
            likely = [] if token.logprobs is UNSET else token.logprobs
            self._logprobs += likely
            written.append(self._add("response.output_text.delta", token.t, content_index=0, logprobs=likely))
        if token.tool_calls is not UNSET:
            written += map(self._call, token.tool_calls)
        return b"".join(written)

    def last(self, end: End, *, ended_s: int) -> bytes:
        """End the item and the answer, at these Unix seconds; an answer without a word has one empty message."""
        written = b""
        if self._open is None and not self._items:
            written = self._begin(MessageItem(f"msg_{self._job_id}_0", [], "in_progress"))
        written += self._end()
        reply = _ended(self._reply, end, self._items, ended_s=ended_s)
        return written + self._event(f"response.{reply.status}", {"response": reply})

    def failed(self, error: LlorchError) -> bytes:
        """Fail the answer, which begins first if it has not yet: clients look for the one event or the other."""
        told = error_reply(error, "", asked="input").error
        reply = structs.replace(
            self._reply, status="failed", output=self._items, error=ResponseError(told.code, told.message)
        )
        return (
            self.first()
            + self._event("error", {"code": told.code, "message": told.message, "param": told.param})
            + self._event("response.failed", {"response": reply})
        )

    def _call(self, call: ToolCallDelta) -> bytes:
        written = b""
        if call.id:
            item_id = f"fc_{self._job_id}_{self._calls}"
            self._calls += 1
            written = self._begin(CallItem(item_id, call.id, call.function.name, "", "in_progress"))
        if call.function.arguments:
            written += self._add("response.function_call_arguments.delta", call.function.arguments)
        return written

    def _begin(self, item: OutputItem) -> bytes:
        """End the item that is open and begin another."""
        written = self._end()
        self._open, self._parts, self._logprobs = item, [], []
        written += self._event("response.output_item.added", {"output_index": len(self._items), "item": item})
        if not isinstance(item, CallItem):
            empty = OutputText("") if isinstance(item, MessageItem) else ReasoningText("")
            written += self._of_item("response.content_part.added", {"content_index": 0, "part": empty})
        return written

    def _add(self, kind: str, delta: str, **fields: object) -> bytes:
        self._parts.append(delta)
        return self._of_item(kind, {"delta": delta, **fields})

    def _end(self) -> bytes:
        if self._open is None:
            return b""
        text = "".join(self._parts)
        written = b""
        item: OutputItem
        if isinstance(self._open, CallItem):
            written += self._of_item("response.function_call_arguments.done", {"arguments": text})
            item = structs.replace(self._open, arguments=text, status="completed")
        elif isinstance(self._open, ReasoningItem):
            thought = ReasoningText(text)
            written += self._of_item("response.reasoning_text.done", {"content_index": 0, "text": text})
            written += self._of_item("response.content_part.done", {"content_index": 0, "part": thought})
            item = structs.replace(self._open, content=[thought], status="completed")
        else:
            said = OutputText(text, logprobs=self._logprobs)
            about: dict[str, object] = {"content_index": 0, "text": text, "logprobs": self._logprobs}
            written += self._of_item("response.output_text.done", about)
            written += self._of_item("response.content_part.done", {"content_index": 0, "part": said})
            item = structs.replace(self._open, content=[said], status="completed")
        written += self._event("response.output_item.done", {"output_index": len(self._items), "item": item})
        self._items.append(item)
        self._open = None
        return written

    def _of_item(self, kind: str, fields: dict[str, object]) -> bytes:
        assert self._open is not None
        return self._event(kind, {"item_id": self._open.id, "output_index": len(self._items), **fields})

    def _event(self, kind: str, fields: dict[str, object]) -> bytes:
        self._serial += 1
        body = {"type": kind, "sequence_number": self._serial, **fields}
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(body))


def _ended(reply: ResponseReply, end: End, items: list[OutputItem], *, ended_s: int) -> ResponseReply:
    cut, cached = end.stop_reason == "max_tokens", InputDetails(end.tokens_cached)
    return structs.replace(
        reply,
        status="incomplete" if cut else "completed",
        output=items,
        usage=ResponseUsage(end.tokens_in, end.tokens_out, end.tokens_in + end.tokens_out, cached),
        incomplete_details=Incomplete("max_output_tokens") if cut else None,
        completed_at=None if cut else ended_s,
    )
