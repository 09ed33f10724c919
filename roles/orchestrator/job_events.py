"""Events of a job as they go to readers: from a token, and from the job's row. Pure."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from llorch.sse import encode_event
from llorch.wire import events
from llorch.wire.codec import encode
from llorch.wire.events import EventId
from roles.orchestrator.state.rows import JobRow


def token(piece: events.Token) -> bytes:
    """Return one token event without what readers do not need; text is made by hand, because there is much of it."""
    index = piece.i
    if piece.tool_calls is piece.logprobs is piece.reasoning_content is UNSET:
        return b'event: token\nid: %d.0\ndata: {"i":%d,"t":%b}\n\n' % (index + 1, index, encode(piece.t))
    shown = events.Token(
        index,
        piece.t,
        reasoning_content=piece.reasoning_content,
        tool_calls=piece.tool_calls,
        logprobs=piece.logprobs,
    )
    return encode_event("token", f"{index + 1}.0", encode(shown))


def terminal(row: JobRow) -> tuple[EventId, bytes]:
    """Return the terminal event; it is the same whenever it is read."""
    event_id = EventId(row.pieces, row.final_event or 0)
    if row.stop_reason is not None:
        started_ms = row.started_ms or row.finished_ms or row.submitted_ms
        end = events.End(
            tokens_in=row.tokens_in or 0,
            tokens_out=row.tokens_out or 0,
            stop_reason=msgspec.convert(row.stop_reason, events.StopReason),
            queue_ms=max(0, started_ms - row.submitted_ms),
            first_token_ms=max(0, (row.first_token_ms or row.finished_ms or started_ms) - row.submitted_ms),
            decode_time_ms=row.decode_ms or 0,
            tokens_cached=row.tokens_cached or 0,
        )
        return event_id, encode_event("end", str(event_id), encode(end))
    failed = events.Failed(
        code=row.error_code or "INTERNAL",
        message=row.error_message or "the job ended without saying why",
        retriable=bool(row.error_retriable),
        details=UNSET if row.error_details is None else msgspec.json.decode(row.error_details),
    )
    return event_id, encode_event("error", str(event_id), encode(failed))
