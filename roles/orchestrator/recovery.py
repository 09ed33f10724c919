"""Taking up what an earlier process left: waiting jobs wait on, running ones are found again at their workers.

A worker goes on for a while without anybody who reads. So a job that ran is not begun again: its worker is asked for
the events behind the last one on disk. Where that fails, the job is tried again like any whose worker was lost.
"""

from __future__ import annotations

from llorch import log
from llorch.job import JobId, State
from roles.orchestrator.queue.attempt import Attempt
from roles.orchestrator.queue.dispatcher import Dispatcher
from roles.orchestrator.queue.order import Ticket
from roles.orchestrator.queue.retry import CAP_MS, FREE_CODES
from roles.orchestrator.relay import Relay
from roles.orchestrator.state.rows import JobRow, Whereabouts
from roles.orchestrator.state.store import Store

TOGETHER = 1_000
RESTARTED = "ORCHESTRATOR_RESTARTED"
UNCOUNTED = FREE_CODES | {RESTARTED, "HANDED_BACK", None}
"""Ends of attempts that say nothing against trying again."""
_log = log.get("orchestrator.recovery")


async def recover(store: Store, relay: Relay, dispatcher: Dispatcher, *, now_ms: int) -> list[JobId]:
    """Give the dispatcher every job that has not ended, in order of submission; return those that need a reader.

    Raises:
        InvalidConfiguration: The database is damaged.
    """
    jobs, last_seq = 0, 0
    read: list[JobId] = []
    while rows := await store.unfinished(after_seq=last_seq, limit=TOGETHER):
        for row in rows:
            await _recover(store, relay, dispatcher, row, now_ms=now_ms)
        read += [row.id for row in rows if row.on_disconnect == "cancel"]
        jobs, last_seq = jobs + len(rows), rows[-1].seq
    if jobs:
        _log.info("jobs_recovered", jobs=jobs, running=len(dispatcher.runs))
    return read


async def _recover(store: Store, relay: Relay, dispatcher: Dispatcher, row: JobRow, *, now_ms: int) -> None:
    ticket = ticket_of(row, now_ms=now_ms)
    place = None
    if row.attempt or row.seq in store.texts.found:
        place = await store.whereabouts(row.seq) if row.state != State.QUEUED else None
        attempts = await store.attempts(row.seq)
        ticket.failures = sum(attempt.outcome not in UNCOUNTED for attempt in attempts)
        generated = await store.generated(row.seq)
        await relay.restore(relay.open(row.id, row.seq, row.kind), row, generated)
    if row.state == State.QUEUED:
        dispatcher.add(ticket)
    elif place is not None:
        dispatcher.runs.find(ticket, place, _attempt(row, place))
    elif row.state == State.CANCELLING:
        await dispatcher.confirm_cancel(ticket)
    else:
        await store.requeue(row.id, outcome=RESTARTED, not_before_ms=0, now_ms=now_ms)
        dispatcher.add(ticket)


def ticket_of(row: JobRow, *, now_ms: int) -> Ticket:
    """Return a job found on disk as it waits.

    Its times may lie ahead, for the clock may have been set back since: then it is as if it had just been submitted,
    and it rests for no longer than any job does.
    """
    ahead_ms = max(0, row.submitted_ms - now_ms)
    return Ticket(
        id=row.id,
        seq=row.seq,
        model_ref=row.model_ref,
        session_id=row.session_id,
        priority=row.priority,
        submitted_ms=row.submitted_ms - ahead_ms,
        deadline_ms=row.deadline_ms - ahead_ms,
        correlation_id=row.correlation_id,
        on_disconnect=row.on_disconnect,
        tag=row.tag,
        kind=row.kind,
        attempt=row.attempt,
        not_before_ms=min(row.not_before_ms, now_ms + CAP_MS),
    )


def _attempt(row: JobRow, place: Whereabouts) -> Attempt:
    """Return an attempt that an earlier process began, as far as it had come."""
    attempt = Attempt(
        seed=row.seed,
        engine=row.engine or "",
        tokens_in=row.tokens_in or 0,
        tokens_before=place.tokens_before,
        first_token_ms=row.first_token_ms,
        started=row.state == State.RUNNING,
    )
    if row.state == State.CANCELLING:
        attempt.cancel.set()
    return attempt
