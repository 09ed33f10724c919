"""Reading a job's event stream for those who want its text: which event says what. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from llorch.errors import LlorchError, RemoteError
from llorch.sse import KEEPALIVE, Splitter, parse_block
from llorch.wire import events
from llorch.wire.conversation import FunctionCall, TokenLogprob, ToolCall

STATUSES = {"CANCELLED": 499, "DISK_FULL": 507, "INVALID_REQUEST": 400, "MODEL_NOT_FOUND": 404}
STATUSES |= dict.fromkeys(("TIMEOUT", "QUEUE_TIMEOUT", "STARTUP_TIMEOUT", "STALLED"), 504)
STATUSES |= dict.fromkeys(("INSUFFICIENT_MEMORY", "BACKEND_UNAVAILABLE", "MODEL_INVALID", "MODEL_INCOMPATIBLE"), 409)

Step = events.Started | events.Token | events.End | None


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a job put out, and how it ended."""

    job_id: str
    text: str
    engine: str
    end: events.End
    reasoning: str = ""
    tool_calls: Sequence[ToolCall] = ()
    logprobs: Sequence[TokenLogprob] = ()


class Gathering:
    """Puts the pieces of one job's output together."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._parts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[list[str]] = []
        self._logprobs: list[TokenLogprob] = []
        self.engine = ""

    def add(self, token: events.Token) -> None:
        """Take the next piece."""
        self._parts.append(token.t)
        if token.is_plain:
            return
        if token.reasoning_content is not UNSET:
            self._thoughts.append(token.reasoning_content)
        if token.logprobs is not UNSET:
            self._logprobs += token.logprobs
        for delta in () if token.tool_calls is UNSET else token.tool_calls:
            if delta.index == len(self._calls):
                self._calls.append([delta.id, delta.function.name, ""])
            self._calls[delta.index][2] += delta.function.arguments

    def answer(self, end: events.End) -> Answer:
        """Return the whole of it."""
        return Answer(
            self._job_id,
            "".join(self._parts),
            self.engine,
            end,
            "".join(self._thoughts),
            [ToolCall(call_id, FunctionCall(name, arguments)) for call_id, name, arguments in self._calls],
            self._logprobs,
        )


def read(blocks: Splitter, data: bytes) -> Iterator[Step]:
    """Yield what the next bytes of a job's event stream say; None is a sign of life.

    Raises:
        LlorchError: The job ended without (all of) its text.
    """
    if data == KEEPALIVE:
        yield None
        return
    for block in blocks.feed(data):
        event = parse_block(block)
        if event is None:
            continue
        if event.kind == "token":
            yield msgspec.json.decode(event.data, type=events.Token)
        elif event.kind == "started":
            yield msgspec.json.decode(event.data, type=events.Started)
        elif event.kind == "end":
            yield msgspec.json.decode(event.data, type=events.End)
        elif event.kind == "error":
            raise failure(msgspec.json.decode(event.data, type=events.Failed))
        else:
            yield None


def failure(failed: events.Failed) -> LlorchError:
    """Return the error that a job ended with, with the HTTP status that says the same."""
    status = STATUSES.get(failed.code, 503 if failed.retriable else 502)
    details = None if failed.details is UNSET else failed.details
    return RemoteError(failed.message, code=failed.code, status=status, retriable=failed.retriable, details=details)
