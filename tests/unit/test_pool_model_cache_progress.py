"""What is told of a download as things happen to it."""

from __future__ import annotations

from msgspec import UNSET

from llorch.errors import DiskFull, HubUnreachable
from llorch.wire.events import Failed
from llorch.wire.models import Download
from roles.pool.model_cache import progress
from roles.pool.model_cache.fetch import Report
from roles.pool.model_cache.pace import Pace
from roles.pool.models_api import event

NEW = Download(download_id="d", model_ref="hf:o/r", state="queued")


def test_a_transfer_tells_rate_and_time_left_and_a_check_tells_neither() -> None:
    pace = Pace()
    view = progress.found(progress.looking(NEW), 1000, 0)
    view = progress.heard(view, Report(kind="progress", bytes_done=100, source="hub"), pace, now_s=1.0)
    view = progress.heard(view, Report(kind="progress", bytes_done=300, source="hub"), pace, now_s=2.0)
    checking = progress.heard(view, Report(kind="verifying", bytes_done=50), pace, now_s=3.0)

    assert (view.state, view.bytes_done, view.rate_bytes_s, view.seconds_left) == ("downloading", 300, 200, 3.5)
    assert (view.source, view.percent) == ("hub", 30.0)
    assert (checking.state, checking.rate_bytes_s, checking.seconds_left) == ("verifying", 0.0, UNSET)


def test_waiting_says_for_what_and_trying_again_says_it_no_more() -> None:
    waiting = progress.waiting(NEW, HubUnreachable("gone"), until_ms=9)
    again = progress.looking(waiting)

    assert (waiting.state, waiting.error, waiting.error_code, waiting.retry_at_ms) == (
        "waiting",
        "gone",
        "HUB_UNREACHABLE",
        9,
    )
    assert (again.state, again.error, again.error_code, again.retry_at_ms) == ("looking", UNSET, UNSET, UNSET)


def test_each_end_is_its_own_event() -> None:
    known = progress.found(NEW, 1000, 400)
    full = DiskFull("full", details={"required_bytes": 1})

    complete = progress.ended(known, "complete", None)
    failed = progress.ended(known, "failed", full)
    cancelled = progress.ended(known, "cancelled", None)

    assert event(known) == ("progress", known)
    assert event(complete) == ("complete", complete)
    assert complete.bytes_done == 1000
    assert event(failed) == ("error", Failed(code="DISK_FULL", message="full", retriable=False))
    assert failed.details == {"required_bytes": 1}
    assert event(cancelled)[1] == Failed(code="CANCELLED", message="the download was cancelled", retriable=False)
