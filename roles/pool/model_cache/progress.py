"""How what is told of a download changes with what happens to it. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET
from msgspec.structs import replace

from llorch.errors import LlorchError
from llorch.wire.models import FINAL, Download, Started
from roles.pool.model_cache.fetch import Report
from roles.pool.model_cache.pace import Pace


def started(view: Download) -> Started:
    """Whoever asked is told where it can be followed."""
    return Started(download_id=view.download_id, state=view.state, events_url=events(view.download_id))


def events(download_id: str) -> str:
    """Return where it can be followed."""
    return f"/v2/models/downloads/{download_id}/events"


def left_bytes(view: Download) -> int:
    """Return what it has still to write, as far as is known."""
    total = view.bytes_total
    return max(0, total - view.bytes_done) if isinstance(total, int) and view.state not in FINAL else 0


def looking(view: Download) -> Download:
    """Somebody is being asked what there is."""
    return replace(view, state="looking", error=UNSET, error_code=UNSET, retry_at_ms=UNSET)


def found(view: Download, total_bytes: int, done_bytes: int) -> Download:
    """It is known how large it is, and what came earlier."""
    return replace(view, state="downloading", bytes_total=total_bytes, bytes_done=min(done_bytes, total_bytes))


def heard(view: Download, report: Report, pace: Pace, *, now_s: float) -> Download:
    """The fetching process has told how far it is; the rate is that of the transfer alone."""
    if report.kind == "verifying":
        return replace(view, state="verifying", bytes_done=report.bytes_done, rate_bytes_s=0.0, seconds_left=UNSET)
    pace.saw(report.bytes_done, now_s=now_s)
    total = view.bytes_total
    left = pace.seconds_left(total - report.bytes_done) if isinstance(total, int) else None
    return replace(
        view,
        state="downloading",
        bytes_done=report.bytes_done,
        rate_bytes_s=round(pace.bytes_s),
        seconds_left=UNSET if left is None else left,
        source=report.source or view.source,
    )


def waiting(view: Download, error: LlorchError, *, until_ms: int) -> Download:
    """A try failed; the next one is at *until_ms*."""
    return replace(
        view,
        state="waiting",
        error=error.message,
        error_code=error.code,
        retry_at_ms=until_ms,
        rate_bytes_s=0.0,
        seconds_left=UNSET,
    )


def ended(view: Download, state: Literal["complete", "failed", "cancelled"], error: LlorchError | None) -> Download:
    """Nothing will change any more."""
    total = view.bytes_total
    return replace(
        view,
        state=state,
        bytes_done=total if state == "complete" and isinstance(total, int) else view.bytes_done,
        rate_bytes_s=0.0,
        seconds_left=UNSET,
        retry_at_ms=UNSET,
        error=error.message if error else UNSET,
        error_code=error.code if error else UNSET,
        details=dict(error.details) if error and error.details else UNSET,
    )
