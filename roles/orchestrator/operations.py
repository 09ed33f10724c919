"""What operators ask of the orchestrator: the queue at a glance, and erasing what is no longer wanted."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from msgspec import UNSET, UnsetType

from llorch.job import State
from llorch.wire.operations import LiveJob, Overview, Purge, Purged
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.queue.dispatcher import Dispatcher
from roles.orchestrator.relay import Relay
from roles.orchestrator.state.live import LiveRow, busy, live
from roles.orchestrator.state.purge import purge
from roles.orchestrator.state.store import Store

T = TypeVar("T")


class Operations:
    """Looks at the queue, the database and the live streams of one orchestrator; changes ended jobs alone."""

    def __init__(self, dispatcher: Dispatcher, relay: Relay, store: Store, clock_ms: ClockMs) -> None:
        self._dispatcher = dispatcher
        self._relay = relay
        self._store = store
        self._clock_ms = clock_ms

    async def overview(self, *, finished_since_ms: int | None, limit: int) -> Overview:
        """Return what is going on; costs O(limit · log n), however many jobs wait."""
        now_ms, queue = self._clock_ms(), self._dispatcher.queue
        waiting = [ticket.id for ticket in queue.first(limit)]
        read = partial(live, waiting=waiting, finished_since_ms=finished_since_ms, limit=limit)
        rows = await self._store.reader.read(read)
        return Overview(
            time_ms=now_ms,
            waiting={"interactive": queue.depth("interactive"), "batch": queue.depth("batch")},
            running=await self._store.reader.read(busy),
            finished_per_s=self._dispatcher.rate.per_second(now_ms),
            jobs=[_job(row, _tokens(self._relay, row), queue.position(row.id)) for row in rows],
        )

    async def purge(self, wanted: Purge) -> Purged:
        """Erase jobs that have ended, or count them."""
        purged = await purge(self._store.writer, wanted, now_ms=self._clock_ms())
        if purged.jobs and not wanted.dry_run:
            await self._relay.shorten_log()  # their texts may stand there, too
        return purged


def _tokens(relay: Relay, row: LiveRow) -> int:
    """Return how much a job has written: once it has ended its row says so, until then its stream."""
    stream = relay.find(row.id)
    if row.tokens_out is not None or stream is None:
        return row.tokens_out or 0
    return stream.count if stream.kind == "text-gen" else 0


def _job(row: LiveRow, tokens: int, position: int | None) -> LiveJob:
    return LiveJob(
        job_id=row.id,
        status=row.state.value,
        model=row.model,
        priority=row.priority,
        submitted_ms=row.submitted_ms,
        attempts=row.attempt,
        tokens_out=tokens,
        max_tokens=row.max_tokens,
        queue_position=_given(position) if row.state is State.QUEUED else UNSET,
        session_id=_given(row.session_id),
        started_ms=_given(row.started_ms),
        finished_ms=_given(row.finished_ms),
        worker_id=_given(row.worker_id),
        pool_id=_given(row.pool_id),
        error_code=_given(row.error_code),
        kind=row.kind,
    )


def _given(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value
