"""Reading a job's event stream for those who want its text: which event says what. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from llorch.errors import LlorchError, RemoteError
from llorch.sse import KEEPALIVE, Splitter, parse_block
from llorch.wire import events

STATUSES = {"CANCELLED": 499, "DISK_FULL": 507, "INVALID_REQUEST": 400, "MODEL_NOT_FOUND": 404}
STATUSES |= dict.fromkeys(("TIMEOUT", "QUEUE_TIMEOUT", "STARTUP_TIMEOUT", "STALLED"), 504)
STATUSES |= dict.fromkeys(("INSUFFICIENT_MEMORY", "BACKEND_UNAVAILABLE", "MODEL_INVALID", "MODEL_INCOMPATIBLE"), 409)

Step = events.Started | events.Token | events.End | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A job's whole text, and how it ended."""

    job_id: str
    text: str
    engine: str
    end: events.End


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
    return RemoteError(failed.message, code=failed.code, status=status, retriable=failed.retriable)
