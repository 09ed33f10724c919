"""A job found on disk waits as it did, also where the clock was set back since."""

from __future__ import annotations

from roles.orchestrator.queue.retry import CAP_MS
from roles.orchestrator.recovery import ticket_of
from tests.support.storing import row

HOUR_MS = 3_600_000


def test_a_waiting_job_keeps_its_times() -> None:
    found = row(submitted_ms=1_000, deadline_ms=301_000, not_before_ms=9_000)

    ticket = ticket_of(found, now_ms=7_000)

    assert (ticket.submitted_ms, ticket.deadline_ms, ticket.not_before_ms) == (1_000, 301_000, 9_000)


def test_times_that_lie_ahead_are_as_if_the_job_had_just_come() -> None:
    found = row(submitted_ms=HOUR_MS, deadline_ms=HOUR_MS + 300_000, not_before_ms=HOUR_MS + 2_000)

    ticket = ticket_of(found, now_ms=7_000)

    assert (ticket.submitted_ms, ticket.deadline_ms, ticket.not_before_ms) == (7_000, 307_000, 7_000 + CAP_MS)


def test_a_job_that_may_run_at_once_may_do_so_still() -> None:
    assert ticket_of(row(submitted_ms=HOUR_MS, not_before_ms=0), now_ms=7_000).not_before_ms == 0
