"""The error body of every role, and its way back into an exception. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from llorch.errors import LlorchError, RemoteError
from llorch.wire.codec import UNREADABLE

RETRIABLE_STATUSES = frozenset({429, 502, 503, 504})


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong: `code` for programs, `message` for people."""

    code: str
    message: str
    correlation_id: str
    retriable: bool = False
    details: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of every answer from status 400 upwards."""

    error: ErrorBody


def to_reply(error: LlorchError, correlation_id: str) -> ErrorReply:
    """Build the body that *error* is answered with."""
    details = dict(error.details) if error.details is not None else msgspec.UNSET
    return ErrorReply(
        ErrorBody(
            code=error.code,
            message=error.message,
            retriable=error.retriable,
            details=details,
            correlation_id=correlation_id,
        )
    )


def to_error(body: bytes, status: int, *, retry_after_s: int | None = None) -> RemoteError:
    """Read an error answer of *status*; a body that is not ours becomes `HTTP_<status>`."""
    try:
        reply = msgspec.json.decode(body, type=ErrorReply).error
    except UNREADABLE:
        return RemoteError(
            f"the server answered with status {status}",
            code=f"HTTP_{status}",
            status=status,
            retriable=status in RETRIABLE_STATUSES,
            retry_after_s=retry_after_s,
        )
    return RemoteError(
        reply.message,
        code=reply.code,
        status=status,
        retriable=reply.retriable,
        details=None if reply.details is msgspec.UNSET else reply.details,
        retry_after_s=retry_after_s,
    )
